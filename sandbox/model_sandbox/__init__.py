"""A Kubernetes-shaped single machine for a first try, for tests and for CI."""
