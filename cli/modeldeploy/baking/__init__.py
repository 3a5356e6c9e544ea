"""Makes an image of a model package and a base image, through the registry's API alone; `commands/bake.py` calls it.

reference, layer, image     names, the layer and the documents of an image: pure but for reading the package
credentials, auth, registry one repository of a registry (OCI distribution), over HTTP
cosign                      signatures of images, as cosign writes them
referrers                   documents that belong to an image
push                        the whole: read the base, add the layer, push, sign
"""
