"""The controllers, which only need an API server."""
