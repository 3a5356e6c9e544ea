"""What phases, conditions, reasons and Events of the operator mean, and what to do; `generators.events` makes the page.

A contract test proves that each table has the reasons that the code of the operator writes, and no others.
"""

from collections.abc import Mapping

#: Meaning and what to do, by reason. A key that is not one word leads to another table.
Reasons = Mapping[str, tuple[str, str]]

PHASE = "a [phase](#phases)"
PAUSE = "a [reason of a pause](#reasons-of-a-pause)"
ROLLBACK = "a [reason of a rollback](#reasons-of-a-rollback)"
POD = "a [failure of pods](#failures-of-pods)"
REFUSAL = "a [reason of a refused spec](#reasons-of-a-refused-spec)"
SERVER = "a [reason of a failed start](server.md#reasons-of-a-failed-start)"
KUBERNETES = "a reason of Kubernetes"

_NOTHING = "nothing"
_BAD_INPUTS = "follow [what comes in is not what the model learnt](../how-to/bad-inputs.md)"
_BUG = ("The operator failed on this resource; others are not affected.", "read the operator's log, and report the bug")
_UNDER = ("As in that table.", "as in that table")
_APPLY_FAILED = (
    "The cluster refuses an object of this model, or another owner has an object of its name.",
    "correct what `status.message` names; the operator repeats the write with growing delays",
)
_SCALED_TO_ZERO = (
    "The model has no pods because `spec.replicas` is 0.",
    "set `spec.replicas`, if the model has to serve",
)

PHASES: Reasons = {
    "Pending": ("The first revision is not ready yet.", "wait; `ModelLoaded` has the reason if pods fail"),
    "Progressing": ("A new revision is being rolled out; stable serves.", _NOTHING),
    "Paused": (
        "The rollout waits; `status.pauseConditions` has the reason.",
        "as in [the reasons](#reasons-of-a-pause)",
    ),
    "Promoting": ("All traffic shifts to the new revision, then the old one drains.", _NOTHING),
    "RollingBack": ("The traffic shifts back to stable.", "as in [the reasons](#reasons-of-a-rollback)"),
    "Healthy": ("Stable serves.", _NOTHING),
    "Degraded": (
        "The revision of the spec failed, or no pod of stable is available.",
        "read `status.message`; correct the spec, `retry` or `undo`",
    ),
    "Sleeping": (
        "No pod runs, because no request came for `autoscaling.idleAfter`; the next one wakes the model.",
        _NOTHING,
    ),
    "Waking": (
        "The first pod of a model that slept is starting; requests are held meanwhile.",
        "wait; `ModelLoaded` has the reason if pods fail",
    ),
    "Terminating": ("The resource is being deleted, and its objects with it.", _NOTHING),
}

PAUSES: Reasons = {
    "PauseStep": ("A step waits for a user, or for its time.", "`promote`, or wait"),
    "RouteNotProgrammed": (
        "The router did not apply the weight in time; the previous weight is restored.",
        "repair the gateway, then `promote`, or `abort`",
    ),
    "AnalysisInconclusive": (
        "The analysis reached its maximum duration without a verdict.",
        "read the evidence with `kubectl modeldeploy watch`; `promote` or `abort`",
    ),
    "ReplayInconclusive": (
        "Recent requests did not show whether the canary answers as stable does, or there were none.",
        "read `status.replay`; `promote` or `abort`",
    ),
    "NoDifference": ("The A/B test found no winner.", "`promote` or `abort`"),
    "SampleRatioMismatch": (
        "The router did not split the users of an A/B test as the weight says, so that the test has no verdict.",
        "correct the split and start again, or `abort`",
    ),
    "ProgressDeadlineExceeded": (
        "The pods made no progress in time, and `progressDeadlineAbort` is false.",
        "correct what keeps the pods; `promote` waits for them again, `abort` rolls back",
    ),
    "UserPaused": ("`spec.paused` is true.", "`resume`, if the reason for the pause is gone"),
    "RouterMissing": (
        "The cluster does not have the kind of the router, such as HTTPRoute.",
        "install it; the rollout continues by itself",
    ),
    "ProviderUnavailable": (
        "A metric provider failed for longer than the spec allows.",
        "repair it; `AnalysisHealthy` has the error, and the rollout continues by itself",
    ),
    "EvaluationError": (
        "The labelled data of an evaluation are missing, or do not fit the model.",
        "correct the step, or delete the Job to evaluate again; the rollout continues by itself",
    ),
    "Gate": ("A gate (`spec.hooks.gates`) is closed.", "ask its owner; `status.message` has its answer"),
}

ROLLBACKS: Reasons = {
    "Reverted": ("The spec has the stable revision again.", _NOTHING),
    "AbortRequested": ("A user requested the rollback.", "`retry`, or apply another revision"),
    "AnalysisFailed": (
        "A metric shows that the canary is worse than stable, or beyond its limit.",
        "read `kubectl modeldeploy report`; correct the model",
    ),
    "AbTestLost": ("Stable won the A/B test.", _NOTHING),
    "AnalysisInconclusive": (
        "The analysis reached its maximum duration, and `onInconclusive` is `Abort`.",
        "allow more time or send more requests, then `retry`",
    ),
    "NoDifference": (
        "The A/B test found no winner, and `onInconclusive` is `Abort`.",
        "decide, or `retry` with more time",
    ),
    "ReplayInconclusive": (
        "Recent requests did not show whether the canary answers as stable does, and `onInconclusive` is `Abort`.",
        "replay more requests or allow more time, then `retry`",
    ),
    "ReplayFailed": (
        "The canary answered recent requests of stable otherwise or more slowly than the limits allow.",
        "read `status.replay`; correct the model, or the limits",
    ),
    "EvaluationFailed": (
        "The canary missed a limit on labelled data; no request reached it in that step.",
        "read `status.evaluation`; correct the model",
    ),
    "ProviderUnavailable": (
        "A metric provider failed, and `onProviderError` is `Abort`.",
        "repair the provider, then `retry`",
    ),
    "ProgressDeadlineExceeded": (
        "The canary's pods made no progress within `progressDeadlineSeconds`.",
        "correct what `status.podFailures` names, then `retry`",
    ),
    "PauseExpired": ("No user promoted the canary within `maxPauseDuration`.", "`retry`"),
    POD: ("The canary's pods failed for good.", "as in that table, then `retry`"),
}

RESULTS: Reasons = {
    "Promoted": ("The revision became stable.", _NOTHING),
    "Aborted": (
        "The revision was rolled back after a failure or a request.",
        "as in [the reasons](#reasons-of-a-rollback)",
    ),
    "Reverted": ("The revision was rolled back because the spec has the stable revision again.", _NOTHING),
    "Superseded": ("A newer revision replaced this one during its rollout.", _NOTHING),
    "Undone": ("The revision was stable, and an earlier revision replaced it.", _NOTHING),
}

HISTORY: Reasons = {
    "FirstRevision": ("The first revision of the model serves.", _NOTHING),
    "AllStepsDone": ("The rollout took all steps.", _NOTHING),
    "AllStepsDoneFast": ("The spec went back to a revision that was stable before: no steps.", _NOTHING),
    "AllStepsDoneRescue": ("Stable had no available pod: only the steps that need no traffic.", _NOTHING),
    "AbTestWon": ("The revision won its A/B test.", _NOTHING),
    "SpecChanged": ("The spec got another revision during the rollout.", _NOTHING),
    "WentBack": ("The spec has an earlier revision again.", _NOTHING),
    ROLLBACK: ("The rollout ended with this rollback.", "as in that table"),
}

REFUSALS: Reasons = {
    "InvalidSpec": (
        "The spec passes the schema and is invalid nevertheless.",
        "write what the message says; existing objects stay unchanged",
    ),
    "PodPolicyViolated": (
        "The pods need what `podPolicy` of the chart does not allow.",
        "[change the spec or the policy](../teams.md)",
    ),
    "TrafficPolicyViolated": (
        "The routes name a Gateway, Service or host name that `trafficPolicy` of the chart does not allow.",
        "[change the spec or the policy](../teams.md)",
    ),
    "MonitoringPolicyViolated": (
        "The namespace may not have ServiceMonitors or PrometheusRules (`monitoring.namespaces` of the chart).",
        "[change the spec or the policy](../teams.md)",
    ),
}

PODS: Reasons = {
    SERVER: ("The model server could not start, and reported why.", "as in that table, and in the hint of the message"),
    "ErrImagePull": ("A node could not pull the image.", "wait for the next attempt; then as `ImagePullBackOff`"),
    "ImagePullBackOff": (
        "The image cannot be pulled.",
        "correct its name, or [the Secret of the registry](../how-to/private-registry.md)",
    ),
    "InvalidImageName": ("The name of the image is invalid.", "correct `spec.server.image`"),
    "ErrImageNeverPull": (
        "The node does not have the image, and may not pull it.",
        "load the image, or change the pull policy",
    ),
    "Unschedulable": (
        "No node fits the pod.",
        "the message lists what is missing: nodes, resources, tolerations, volumes",
    ),
    "FailedCreate": (
        "The cluster refuses to create pods: a quota, a policy, a missing ServiceAccount.",
        "correct what the message names",
    ),
    "Error": ("A container ended with an error, and Kubernetes gives no reason.", "read the log of the pod"),
    "Failed": ("A pod ended, and Kubernetes gives no reason.", "`kubectl describe pod`"),
    "Succeeded": ("The server ended without an error, which it does not do by itself.", "`kubectl describe pod`"),
    KUBERNETES: (
        "Any other reason of a container or a pod, as Kubernetes gives it, such as `OOMKilled`, `CrashLoopBackOff`"
        " or `Evicted`.",
        "`kubectl describe pod`; more memory (`spec.server.resources.limits.memory`) after `OOMKilled`",
    ),
}

#: What the condition says when it is True, and its reasons.
CONDITIONS: Mapping[str, tuple[str, Reasons]] = {
    "Ready": (
        "The revision of the spec serves with all its pods and all traffic, and nothing is left to do (kstatus).",
        {
            "Serving": ("The model is ready.", _NOTHING),
            "Sleeping": ("The model sleeps, and serves as soon as a request wakes it.", _NOTHING),
            "Scaling": ("Not all pods are available.", "wait; `status.podFailures` has the reason if pods fail"),
            "ScaledToZero": (
                "The spec has a new revision, which waits because the model has no pods.",
                "set `spec.replicas`, if the model has to serve",
            ),
            "RouteNotProgrammed": ("The router has not applied the route.", "as `RouteProgrammed`"),
            "ModelNotReported": ("No server was asked for its model and version yet.", "wait; it takes a moment"),
            "ApplyFailed": _APPLY_FAILED,
            PHASE: _UNDER,
            REFUSAL: _UNDER,
            "InternalError": _BUG,
        },
    ),
    "Reconciling": (
        "The operator still works on the resource (kstatus).",
        {"Idle": ("There is nothing to do, or the resource waits for a user.", _NOTHING), PHASE: _UNDER},
    ),
    "Stalled": (
        "The resource cannot become ready without a change (kstatus).",
        {
            "NotStalled": ("There is no failure.", _NOTHING),
            "NoReplicaAvailable": ("No pod of stable is available.", "as `Available`"),
            "ApplyFailed": _APPLY_FAILED,
            ROLLBACK: _UNDER,
            POD: _UNDER,
            REFUSAL: _UNDER,
            "InternalError": _BUG,
        },
    ),
    "Available": (
        "At least one pod of stable is available, or none is wanted.",
        {
            "MinimumReplicasAvailable": ("At least one pod is available, or none is wanted.", _NOTHING),
            "NoReplicaAvailable": (
                "No pod of stable is available.",
                "`status.podFailures`; `undo` if a revision served before",
            ),
        },
    ),
    "Progressing": ("The first revision is not ready, or a rollout is not finished.", {PHASE: _UNDER}),
    "Paused": (
        "The rollout waits.",
        {"NotPaused": ("The rollout does not wait.", _NOTHING), PAUSE: _UNDER, "UserPaused": PAUSES["UserPaused"]},
    ),
    "ModelLoaded": (
        "A pod of the newest revision has the model loaded and warmed.",
        {
            "Loaded": ("The model is loaded.", _NOTHING),
            "Loading": ("The model is being loaded.", "wait; the Events of its pods have the progress"),
            "Sleeping": ("The model sleeps.", "nothing; a request wakes it"),
            "ScaledToZero": _SCALED_TO_ZERO,
            POD: _UNDER,
        },
    ),
    "AutoscalerActive": (
        "The autoscaler can scale. Only with `spec.autoscaling`.",
        {
            "ScalingActive": ("The autoscaler works.", _NOTHING),
            "Unknown": ("The autoscaler does not work, and Kubernetes gives no reason.", "`kubectl describe hpa`"),
            KUBERNETES: (
                "The reason of the HorizontalPodAutoscaler, such as `FailedGetResourceMetric`.",
                "what the message says: install a source of metrics, or set requests",
            ),
        },
    ),
    "ActivatorReady": (
        "Activators take the requests of the model while it sleeps. Only with `spec.autoscaling.idleAfter`.",
        {
            "Listening": ("Activators listen.", _NOTHING),
            "Connecting": ("No activator has answered since the operator started.", "wait"),
            "NotInstalled": (
                "The installation has no activator, so the model does not sleep.",
                "set `activator.enabled` to true in the chart, or leave `idleAfter` out",
            ),
            "NoActivator": (
                "No pod of the activator is ready. The model does not fall asleep; one that sleeps does not answer.",
                "look at the pods of the activator",
            ),
        },
    ),
    "RouteProgrammed": (
        "The router has applied the weight. Only with a router.",
        {
            "Programmed": ("The router has applied the weight.", _NOTHING),
            "Waiting": ("The router has not confirmed the weight.", "wait; the message has what the Gateway reports"),
            "RouterMissing": PAUSES["RouterMissing"],
        },
    ),
    "AnalysisHealthy": (
        "All metric providers of the analysis answer. Only with metrics of a provider.",
        {
            "ProvidersAnswer": ("The providers answer.", _NOTHING),
            "ProviderError": ("A provider fails; the message has the error.", "repair the provider or the query"),
        },
    ),
    "MonitoringReady": (
        "The ServiceMonitor and the PrometheusRule are written. Only with `spec.monitoring`.",
        {
            "ObjectsWritten": ("The objects are written.", _NOTHING),
            "KindMissing": ("The cluster does not have these kinds.", "install the Prometheus operator"),
        },
    ),
    "DataQuality": (
        "Requests look like the training data, as the pods of stable find. Only with `spec.monitoring.dataQuality`.",
        {
            "WithinLimits": ("No problem is surely more frequent than its limit.", _NOTHING),
            "NotReported": ("No pod of stable has compared requests yet, or stable does not compare them.", "wait"),
            "NoRequests": ("The pods of stable have received no request yet.", "wait, or send some"),
            "MissingValues": ("A feature is missing too often.", _BAD_INPUTS),
            "UnseenCategories": ("A feature has values that are no category of the training data.", _BAD_INPUTS),
            "OutOfRange": ("A feature is below or above all values of the training data.", _BAD_INPUTS),
            "WrongType": ("The schema refuses values of a feature for their type.", _BAD_INPUTS),
            "Outliers": ("Too many rows are farther from the training data than 99.9 % of it.", _BAD_INPUTS),
            "ReferenceProfileMissing": (
                "The package does not describe its training data, so the revision does not start.",
                "write `reference_profile` with `modeldeploy package --sample`, or leave `dataQuality` out",
            ),
            "ReferenceProfileMismatch": (
                "The package describes the training data of another model, so the revision does not start.",
                "write `reference_profile` from this model's own training data with `modeldeploy package --sample`",
            ),
            "MetadataInvalid": (
                "`reference_profile` has other features than `input_features`, so the revision does not start.",
                "write `reference_profile` from this model's own training data with `modeldeploy package --sample`",
            ),
        },
    ),
    "SourceAvailable": (
        "The servers can look whether the object at the storage URI has changed. Only with `spec.model.pollInterval`.",
        {
            "Readable": ("The last look succeeded.", _NOTHING),
            "NotReported": ("No pod of stable has told it yet.", "wait"),
            "StorageUnavailable": (
                "The storage or the registry does not answer. The loaded model goes on serving.",
                "repair it; the servers look again at each interval. A pod that starts now cannot fetch the model",
            ),
            "ArtifactAccessDenied": (
                "The storage or the registry refuses the credentials. The loaded model goes on serving.",
                "correct the Secret `spec.model.secretName`; new pods read it, so make some with"
                " `kubectl modeldeploy refresh`",
            ),
            "ArtifactNotFound": (
                "Nothing is at the storage URI any more, or the registry has no such version or alias. The loaded model"
                " goes on serving.",
                "upload the package again, or set the alias",
            ),
            "SourceUnreadable": (
                "The servers cannot look at the storage URI for another reason. The loaded model goes on serving.",
                "read the log of a pod, which says why",
            ),
        },
    ),
    "StreamConnected": (
        "The servers are connected to the broker of their messages. Only with `spec.server.stream`.",
        {
            "Connected": ("The servers are connected.", _NOTHING),
            "NotReported": ("No pod of stable has told it yet, or stable does not consume.", "wait"),
            "BrokerUnavailable": (
                "The broker does not answer. Messages wait there; requests over HTTP are answered.",
                "repair the broker, or the address; the servers connect again by themselves",
            ),
            "BrokerRefused": (
                "The broker refuses the credentials, or does not allow a topic.",
                "correct the Secret `spec.server.stream.secretName`, or the rights; the log of a pod has the words",
            ),
            "TopicMissing": (
                "A topic does not exist, or is not what it has to be.",
                "create it; the log of a pod names it and says how",
            ),
            "BrokerUntrusted": (
                "The certificate of the broker is of an authority that the pods do not know, or for another host.",
                "write the authority as `ca.crt` into the Secret `spec.server.stream.tls.secretName`, or use a host"
                " that the certificate has; the log of a pod says which it is",
            ),
            "BrokerCertificateExpired": (
                "The certificate of the broker has expired, or is not valid yet.",
                "renew it at the broker",
            ),
            "EncryptionMismatch": (
                "The broker has TLS at this port and the address has not, or the other way round.",
                "write `tls://`, `rediss://`, `amqps://` or `kafkas://` in the address, or name the other port",
            ),
            "TLSFilesInvalid": (
                "The Secret has no certificates in PEM form, or one of `tls.crt` and `tls.key` without the other.",
                "correct the Secret `spec.server.stream.tls.secretName`; no restart is needed",
            ),
        },
    ),
    "EstimateTrusted": (
        "The quality that is estimated without labels may be trusted. Only with `spec.monitoring.estimatedQuality`.",
        {
            "Trusted": ("The estimate is calibrated, and the inputs are like those of the training data.", _NOTHING),
            "NotReported": ("No pod of stable has told it yet.", "wait"),
            "NotCalibrated": (
                "The package has no calibration, so that nothing is estimated.",
                "package the model with `modeldeploy package --holdout FILE --target COLUMN`",
            ),
            "InputsDrifted": (
                "Features have drifted: how often the model is right for such inputs, nobody has measured.",
                "label some answers and send them to `/feedback`, or train the model again",
            ),
            "FewRows": ("The servers have answered fewer than 200 rows since their start.", "wait"),
        },
    ),
    "AnnotationsAccepted": (
        "Each request by an annotation is accepted. Only with such annotations.",
        {
            "AllAccepted": ("The requests are accepted.", _NOTHING),
            "AnnotationIgnored": (
                "An annotation is unknown, or its request is not possible now; the message has the reason.",
                "correct or remove the annotation",
            ),
        },
    ),
    "SpecSupported": (
        "Only present when it is False.",
        {
            "UnknownFields": (
                "The spec has fields of a newer definition, which have no effect.",
                "upgrade the operator, or remove the fields",
            )
        },
    ),
}

_STARTING = ("A server that is not ready reports its progress. The Event is about the pod.", "wait")

_INPUTS_EVENT = ("Requests do not look like the training data.", "as in [the condition](#dataquality)")

NORMAL_EVENTS: Reasons = {
    "RolloutStarted": ("The rollout of a new revision started.", _NOTHING),
    "FellAsleep": ("The model has no pod any more: no request came for `autoscaling.idleAfter`.", _NOTHING),
    "Woken": ("A request, a schedule or a new revision woke the model; the message has the cause.", _NOTHING),
    "WeightSet": ("The canary gets another percentage of the traffic.", _NOTHING),
    "RolloutPaused": (
        "The rollout waits; the message begins with the reason.",
        "as in [the reasons](#reasons-of-a-pause)",
    ),
    "ReplayPassed": ("The canary answered recent requests of stable within the limits.", _NOTHING),
    "EvaluationPassed": ("The canary met the limits on labelled data.", _NOTHING),
    "RequestAccepted": ("The operator accepted a request by an annotation.", _NOTHING),
    "SourceChanged": ("The object at `storageUri` changed: it becomes a new revision.", _NOTHING),
    "RevisionPromoted": ("The revision became stable.", _NOTHING),
    "RevisionReverted": ("The spec has the stable revision again, and the rollback is finished.", _NOTHING),
    "RevisionSuperseded": ("A newer revision replaced this one during its rollout.", _NOTHING),
    "RevisionUndone": ("An earlier revision replaces this one, which was stable.", _NOTHING),
    "DataQualityRestored": ("Requests look like the training data again.", _NOTHING),
    "Reverted": ("The rollback started because the spec has the stable revision again.", _NOTHING),
    "Downloading": _STARTING,
    "Loading": _STARTING,
    "Warming": _STARTING,
}

WARNING_EVENTS: Reasons = {
    ROLLBACK: ("A rollback started; `Reverted` is of type Normal.", "as in that table"),
    "RevisionAborted": ("The rollback of the revision is finished.", "as in [the reasons](#reasons-of-a-rollback)"),
    POD: ("Pods of a revision fail.", "as in that table"),
    "ApplyFailed": _APPLY_FAILED,
    "DriftCorrected": (
        "Another writer changed managed fields of an object; the operator restores them.",
        "find the writer, such as a second controller, and stop it",
    ),
    "MissingValues": _INPUTS_EVENT,
    "UnseenCategories": _INPUTS_EVENT,
    "OutOfRange": _INPUTS_EVENT,
    "WrongType": _INPUTS_EVENT,
    "Outliers": _INPUTS_EVENT,
    "RetrainRequested": (
        "The inputs drifted, or the quality is beyond its bound: the operator requests training.",
        "read the message; `spec.hooks.retrain` trains the model",
    ),
    "RetrainFailed": ("The Job of the training failed.", "read the log of the Job"),
    "VerdictNotWritten": (
        "The result of a rollout could not be written into the registry (`hooks.registry`). The operator tries again.",
        "see the message: the registry is away, refuses the credentials, or a Role for the Secret is missing",
    ),
    "UndoImpossible": ("The requested revision cannot be restored.", "name one of the revisions in the message"),
    "NotInstalled": (
        "The model has `idleAfter`, and the installation has no activator.",
        "as in [the condition](#activatorready)",
    ),
    "NoActivator": ("No pod of the activator is ready.", "as in [the condition](#activatorready)"),
    "KindMissing": ("The cluster has no ServiceMonitor or PrometheusRule.", "install the Prometheus operator"),
    "AnnotationIgnored": (
        "An annotation is unknown, or its request is not possible now; the message has the reason.",
        "correct or remove the annotation",
    ),
    "UnknownFields": (
        "The spec has fields of a newer definition, which have no effect.",
        "upgrade the operator, or remove the fields",
    ),
    REFUSAL: ("The spec is invalid, or a policy refuses it; existing objects stay unchanged.", "as in that table"),
    "InternalError": _BUG,
}
