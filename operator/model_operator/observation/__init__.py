"""Converts the objects of the cluster to the values that decisions depend on. Pure."""
