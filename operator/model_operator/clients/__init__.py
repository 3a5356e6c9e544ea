"""Clients of external systems: the Kubernetes API, the pods, metric providers and webhooks. They raise `errors`."""
