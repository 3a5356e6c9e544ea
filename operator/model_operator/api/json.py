"""Types of JSON objects as the Kubernetes API has them."""

from collections.abc import Mapping
from typing import Any

#: An object that its reader does not change.
Body = Mapping[str, Any]
#: An object that its owner may change.
JsonObject = dict[str, Any]
