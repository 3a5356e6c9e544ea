"""The ModelDeployment as frozen values, which are parsed once at the edge and never change.

The rest of the operator uses these types only; camelCase names and the defaults of the wire stay in this package.
"""

from model_operator.api.resource import ModelDeployment, ObjectKey
from model_operator.api.spec import Spec
from model_operator.api.status import Phase, Status
from model_operator.api.version import GROUP, KIND, PLURAL, VERSION

__all__ = [
    "GROUP",
    "KIND",
    "PLURAL",
    "VERSION",
    "ModelDeployment",
    "ObjectKey",
    "Phase",
    "Spec",
    "Status",
]
