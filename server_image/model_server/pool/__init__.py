"""Many models behind one port: `python -m model_server pool`; docs/decisions/0019-model-pools.md has the reasons."""
