"""What conditions, reasons and Events of a ModelPool mean, and what to do; `generators.reference` makes its page.

A contract test proves that the page has every reason that the code of the operator writes.
"""

from collections.abc import Mapping

from generators.reasons import Reasons

POOL_CONDITIONS: Mapping[str, tuple[str, Reasons]] = {
    "SpecValid": (
        "The spec can be carried out.",
        {
            "SpecValid": ("Nothing is wrong with it.", ""),
            "InvalidSpec": ("It passed the schema, and cannot be carried out.", "Read the message, and correct it."),
            "PodPolicyViolated": (
                "The pod policy of the namespace refuses its pods.",
                "Read the message; the administrator of the cluster sets the policy.",
            ),
            "MonitoringPolicyViolated": (
                "The namespace may have no ServiceMonitors.",
                "Read the message; the administrator of the cluster sets `monitoring.namespaces` of the chart.",
            ),
            "ApplyFailed": (
                "An object of the pool cannot be written, or has another owner.",
                "Read the message: correct the field that it names, or delete what has the name, or rename the pool.",
            ),
            "InternalError": ("The operator failed on this resource.", "Look into the operator's log, and report it."),
        },
    ),
    "Ready": (
        "All pods serve the pool.",
        {
            "PodsReady": ("Each pod is ready.", ""),
            "PodsNotReady": (
                "A pod is missing or not ready.",
                "The message has the reason of a pod, or the command that shows it.",
            ),
        },
    ),
    "ModelsLoaded": (
        "Every model that was asked for could be loaded.",
        {
            "NoneFailed": ("No pod has a model that failed.", ""),
            "ModelsFailed": (
                "Some models cannot be loaded, or ended their process and were put aside. The others are served.",
                "`status.failures` has names and reasons; `POST /v2/repository/index` of a pod has the sentences.",
            ),
        },
    ),
}

POOL_EVENTS: Reasons = {
    "PoolPending": ("No pod is ready.", ""),
    "PoolReady": ("All pods are ready, and no model has failed.", ""),
    "PoolDegraded": ("A pod is not ready, or a model has failed.", "Read the message."),
    "ModelsFailed": ("More models have failed than before.", "Read the message."),
}
