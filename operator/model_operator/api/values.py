"""What all values of the API have in common: frozen structs, camelCase on the wire, changed by `replace`."""

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of values that are read from the API server: fields are named in camelCase there.

    Defaults stand in the structs alone; `tests/contract/operator/test_fields.py` holds them against the definition.
    """


if TYPE_CHECKING:
    from dataclasses import replace as replace  # mypy knows the fields of both; msgspec's own takes any
else:

    def replace(value: Any, /, **changes: Any) -> Any:
        """Return a struct or dataclass with other fields.

        Raises:
            TypeError: it has no field of this name.
        """
        if isinstance(value, msgspec.Struct):
            return msgspec.structs.replace(value, **changes)
        return dataclasses.replace(value, **changes)
