"""Storage URIs: why servers cannot look at them, and what those of a registry name."""

from collections.abc import Mapping

#: Why the servers cannot tell whether the object at the storage URI has changed, by the reason that they report.
SOURCE_PROBLEMS: Mapping[str, str] = {
    "StorageUnavailable": "the storage or the registry does not answer; the model that is loaded goes on serving",
    "ArtifactAccessDenied": "the storage or the registry refuses the credentials; the model that is loaded goes on"
    " serving",
    "ArtifactNotFound": "nothing is at the storage URI any more, or the registry has no such version or alias; the"
    " model that is loaded goes on serving",
    "SourceUnreadable": "the servers cannot look at the storage URI; the log of a pod says why, and the model that is"
    " loaded goes on serving",
}
OTHER_PROBLEM = "SourceUnreadable"
