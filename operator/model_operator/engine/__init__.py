"""The level-triggered engine: caches fed by watches, a queue of keys, and one reconcile for all of them.

It knows no kopf: whatever can list, watch and write can drive it.
"""
