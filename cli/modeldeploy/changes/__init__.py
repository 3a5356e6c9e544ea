"""What applying a manifest would change: how to ask the API server, and what the answer means. PURE.

Used by `commands/diff.py`.
"""

from modeldeploy.changes.applying import Request, request_for
from modeldeploy.changes.effect import Effect, effect_of
from modeldeploy.changes.text import unified

__all__ = ["Effect", "Request", "effect_of", "request_for", "unified"]
