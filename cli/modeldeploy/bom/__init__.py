"""The bill of materials of a model package, as CycloneDX (ML-BOM); `commands/bom.py` and `commands/bake.py` call it.

requirements    what a requirements.txt asks for: pure
package         what the files of a package say: read here, and nowhere else
document        the document: pure
attached        one that is to be attached to an image
"""
