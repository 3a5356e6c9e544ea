"""HTTP: a FastAPI application with a router for each protocol, and a fast path of the predictions in front of it."""
