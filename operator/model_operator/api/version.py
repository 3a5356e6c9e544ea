"""Group, version and kind of the resource in the API server (`crds/modeldeployments.yaml`)."""

GROUP = "modeldeploy.dev"
VERSION = "v1alpha1"
KIND = "ModelDeployment"
PLURAL = "modeldeployments"
API_VERSION = f"{GROUP}/{VERSION}"
