"""The dashboard: every ModelDeployment of a cluster as a page that follows what happens, and the requests as buttons.

`commands/dashboard.py` starts it on a user's machine, the chart in a cluster. `view` holds what the pages show,
computed from values; `store` holds what the API server said; `app` puts them together.
"""
