"""The activator: a reverse proxy that takes the requests of models that sleep, and holds them until a pod is ready.

A process of its own (`python -m model_operator.activator`) without any right in the Kubernetes API: the operator tells
it which port is which model and where its ready pods are, and asks it for which models it has requests
(docs/decisions/0018-the-activator.md).
"""
