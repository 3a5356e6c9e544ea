"""Makes a model package ready to be served: model.yaml, digest, upload. `commands/package.py` calls it."""
