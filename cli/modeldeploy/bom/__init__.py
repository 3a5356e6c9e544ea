"""The bill of materials of a model package, as CycloneDX (ML-BOM); `commands/bom.py` and `commands/bake.py` call it.

requirements    what a requirements.txt asks for: pure
facts, package  what the files of a package say: values, and where they are read
document        the document, with fields and model_card: pure
attached        one that is to be attached to an image
"""
