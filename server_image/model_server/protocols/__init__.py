"""The protocols, one file each: a codec turns bytes into arrays and back. Pure; `dataplane.py` calls them."""
