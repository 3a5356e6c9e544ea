"""The world outside: the Kubernetes API, the pods' metrics, the clock. Each raises our errors from its own."""
