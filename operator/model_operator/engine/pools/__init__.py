"""Reconciles ModelPools, with a cache, watches and a work queue of their own."""
