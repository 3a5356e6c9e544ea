"""The routers, one file a protocol; `app.py` includes them."""
