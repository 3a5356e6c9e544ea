"""The level-triggered engine: caches filled by watches, a work queue of keys, and one reconcile function.

It does not depend on kopf or on a client: it needs the ports to list, watch and write.
"""
