"""Kubernetes objects as dicts, rendered from plain values. Pure: no clock, no cluster, no environment."""
