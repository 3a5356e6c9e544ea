"""Lua scripts as Argo CD runs them: Lua 5.1 with base, table and package libraries, and an `os` that knows the time.

There is no string and no math library
(https://argo-cd.readthedocs.io/en/stable/operator-manual/resource_actions/, util/lua/lua.go).
"""

from typing import Any

from lupa.lua51 import LuaError, LuaRuntime

__all__ = ["LuaError", "run"]

_SANDBOX = """
getmetatable("").__index = nil
for _, name in ipairs({"string", "math", "io", "debug", "coroutine"}) do _G[name] = nil; package.loaded[name] = nil end
os = {time = function() return now end}
package.loaded.os = os
"""


def run(script: str, obj: dict[str, Any], *, now: int = 0) -> Any:
    """Return what a script returns for an object.

    Raises:
        LuaError: the script raised an error.
    """
    lua = LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    lua.globals().now = now
    lua.execute(_SANDBOX)
    lua.globals().obj = lua.table_from(obj, recursive=True)
    return _from_lua(lua.execute(script))


def _from_lua(value: Any) -> Any:
    if not hasattr(value, "items"):
        return value
    pairs = {key: _from_lua(one) for key, one in value.items()}
    if pairs and set(pairs) == set(range(1, len(pairs) + 1)):
        return [pairs[number] for number in sorted(pairs)]
    return pairs
