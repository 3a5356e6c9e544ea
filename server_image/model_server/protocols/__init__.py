"""The protocols, one file each: bytes to arrays and back, pure; `routes.py` joins them to the model."""
