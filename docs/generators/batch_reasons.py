"""What conditions, reasons and Events of a ModelBatch mean, and what to do; `generators.reference` makes its page.

A contract test proves that the page has every reason that the code of the operator writes.
"""

from collections.abc import Mapping

from generators.reasons import Reasons

BATCH_CONDITIONS: Mapping[str, tuple[str, Reasons]] = {
    "SpecValid": (
        "The spec can be carried out.",
        {
            "SpecValid": ("Nothing is wrong with it.", ""),
            "InvalidSpec": (
                "It passed the schema, and cannot be carried out.",
                "Read the message, and make another ModelBatch.",
            ),
            "PodPolicyViolated": (
                "The pod policy of the namespace refuses its pods.",
                "Read the message; the administrator of the cluster sets the policy.",
            ),
            "ApplyFailed": (
                "The API server rejects the Job or the run, or it has another owner.",
                "Read the message: correct the field that it names, or delete what has the name. The operator tries "
                "again after a minute at most.",
            ),
            "InternalError": (
                "The operator failed on this resource.",
                "Look into the operator's log, and report it.",
            ),
        },
    ),
    "ModelResolved": (
        "The model that predicts is known.",
        {
            "ModelFound": ("The message names it.", ""),
            "ModelNotFound": (
                "No ModelDeployment of the namespace has this name.",
                "Apply it, or correct `spec.model.name` in another ModelBatch.",
            ),
            "ModelNotReady": (
                "The ModelDeployment has no stable revision yet.",
                "The batch waits; the message says how the model stands.",
            ),
            "ModelNotOurs": (
                "The ModelDeployment serves by `server.container`, which no batch can ask.",
                "Name a package by `spec.model.storageUri` in another ModelBatch.",
            ),
            "RevisionNotFound": (
                "The revision with which the batch began is gone.",
                "Make another ModelBatch. Raise `revisionHistoryLimit` where batches take longer than rollouts.",
            ),
        },
    ),
    "Suspended": (
        "`spec.suspend` is true.",
        {
            "JobSuspended": ("Its pods are deleted; shards that are done stay done.", ""),
            "JobResumed": ("Its pods work again.", ""),
        },
    ),
    "Complete": ("All shards are done.", {"ShardsCompleted": ("`_SUCCESS` is written.", "")}),
    "Failed": (
        "The batch ended without all of its shards.",
        {
            "JobFailed": ("The Job failed, and no pod told why.", "`kubectl describe job`."),
            "a reason of the Job": (
                "Such as `BackoffLimitExceeded` or `DeadlineExceeded`.",
                "The message has what the last pod said.",
            ),
            "a reason of a failed start": (
                "What a pod told, as [the server's reasons](server.md#reasons-of-a-failed-start).",
                "The message says what to write instead.",
            ),
        },
    ),
}
BATCH_EVENTS: Reasons = {
    "BatchRunning": ("The Job was made.", ""),
    "BatchSuspended": ("The Job is suspended.", ""),
    "BatchScheduled": ("The operator has read the schedule.", ""),
    "BatchComplete": ("All rows are predicted.", ""),
    "RunStarted": ("A run of the schedule was made.", ""),
    "RunHeld": ("A run is due, and another one is active.", "Wait, or set `concurrencyPolicy`."),
    "the reason of a condition": (
        "Of type Warning: what the batch waits for, or why it failed.",
        "As in the conditions.",
    ),
}
