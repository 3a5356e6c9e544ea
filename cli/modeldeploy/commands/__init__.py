"""The commands of `modeldeploy`, one file for those that belong together. Put together by `app.py`."""
