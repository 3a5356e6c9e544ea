"""ModelDeployment as frozen values: parsed once at the edge, never changed.

Everything else in the operator speaks in these types; camelCase and defaults of the wire stay here.
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
