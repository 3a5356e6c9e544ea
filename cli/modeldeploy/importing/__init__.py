"""Reads deployments of other systems, and writes ModelDeployments. Used by `commands/importing.py`.

A module for each system turns its document into a `Conversion`, and is pure; `sources` reads files, `writing` writes
them.
"""

from modeldeploy.importing.sources import Imported, read_source
from modeldeploy.importing.values import Conversion, Finding, Verdict
from modeldeploy.importing.writing import Written, write

__all__ = ["Conversion", "Finding", "Imported", "Verdict", "Written", "read_source", "write"]
