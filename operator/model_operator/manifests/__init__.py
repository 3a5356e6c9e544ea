"""Kubernetes objects as dicts, made of plain values. Pure: no clock, no cluster, no defaults of the day."""
