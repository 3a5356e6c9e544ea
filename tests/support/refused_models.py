"""Models, servers, autoscalers, hooks and labels that cannot work, and what the API server says of each."""

from spec_parts import MODEL, Row

TOPICS = {"input": "in", "output": "out", "deadLetter": "dead"}
NATS = {"nats": {"url": "nats://nats:4222"}}

STREAMS: list[Row] = [
    ("messages of no broker", {"server": {"stream": TOPICS}}, "server.stream has one broker: give one of nats"),
    (
        "messages of two brokers",
        {"server": {"stream": {**TOPICS, **NATS, "redis": {"url": "redis://redis:6379"}}}},
        "server.stream has one broker: give one of nats",
    ),
    (
        "messages without a place for those that have no answer",
        {"server": {"stream": {"input": "in", "output": "out", **NATS}}},
        "spec.server.stream.deadLetter: Required value",
    ),
    (
        "answers where the messages come from",
        {"server": {"stream": {**TOPICS, "output": "in", **NATS}}},
        "must be three different topics",
    ),
    ("all topics at once", {"server": {"stream": {**TOPICS, "input": "in.>", **NATS}}}, "spec.server.stream.input"),
    ("a topic of a long name", {"server": {"stream": {**TOPICS, "input": "i" * 250, **NATS}}}, "Too long"),
    ("a group with a dot", {"server": {"stream": {**TOPICS, **NATS, "group": "a.b"}}}, "spec.server.stream.group"),
    (
        "NATS by HTTP",
        {"server": {"stream": {**TOPICS, "nats": {"url": "http://nats"}}}},
        "nats.url must be nats:// or tls://",
    ),
    (
        "credentials in the address of Redis",
        {"server": {"stream": {**TOPICS, "redis": {"url": "redis://u:p@redis:6379"}}}},
        "credentials belong in the Secret stream.secretName",
    ),
    (
        "credentials in the address of RabbitMQ",
        {"server": {"stream": {**TOPICS, "rabbitmq": {"url": "amqp://u:p@rabbit"}}}},
        "credentials belong in the Secret stream.secretName",
    ),
    (
        "Kafka by another scheme",
        {"server": {"stream": {**TOPICS, "kafka": {"url": "PLAINTEXT://kafka:9092"}}}},
        "kafka.url must be kafka:// or kafkas://",
    ),
    (
        "certificates for a connection without TLS",
        {"server": {"stream": {**TOPICS, **NATS, "tls": {"secretName": "nats-tls"}}}},
        "server.stream.tls has certificates for an encrypted connection: write tls://",
    ),
    (
        "certificates of no Secret",
        {"server": {"stream": {**TOPICS, "kafka": {"url": "kafkas://kafka:9093"}, "tls": {}}}},
        "spec.server.stream.tls.secretName: Required value",
    ),
    (
        "waiting messages without a stream",
        {"autoscaling": {"maxReplicas": 3, "targetStreamLag": 5}},
        "autoscaling.targetStreamLag counts waiting messages: set server.stream",
    ),
]

MODELS: list[Row] = [
    *STREAMS,
    ("a missing storageUri", {"model": {}}, "spec.model.storageUri is missing: write the URI"),
    ("a storageUri without a scheme", {"model": {"storageUri": "models/7"}}, "must be a scheme in lower-case letters"),
    ("a scheme that encrypts nothing", {"model": {"storageUri": "http://models/7"}}, "http:// is refused"),
    ("a URI that names nothing", {"model": {"storageUri": "s3://"}}, "must be a scheme in lower-case letters"),
    ("a URI without a bucket", {"model": {"storageUri": "s3:///models"}}, "must name something behind s3://"),
    (
        "a registered model without a version",
        {"model": {"storageUri": "models:/wine"}},
        "is written models:/name@alias",
    ),
    ("an alias with two slashes", {"model": {"storageUri": "models://wine@a"}}, "is written models:/name@alias"),
    (
        "a registry's address within its URI",
        {"model": {"storageUri": "model-registry://registry:8080/wine/1"}},
        "is written model-registry://name",
    ),
    (
        "a version that is a path",
        {"model": {"storageUri": "model-registry://wine/.."}},
        "is written model-",
    ),
    ("a stage", {"model": {"storageUri": "models:/wine/Production"}}, "is written models:/name@alias"),
    (
        "a registry of another URI",
        {"model": {**MODEL, "registry": {"url": "https://mlflow"}}},
        "registry is where models:/ and model-registry:// URIs are looked up",
    ),
    (
        "a version beside the registry's",
        {"model": {"storageUri": "models:/wine@a", "version": "7"}},
        "the version of a models:/ or model-registry:// URI is the registry's",
    ),
    (
        "credentials in the address of a registry",
        {"model": {"storageUri": "models:/wine@a", "registry": {"url": "https://u:p@mlflow"}}},
        "spec.model.registry.url",
    ),
    (
        "a verdict for no registry",
        {"hooks": {"registry": {"url": "https://mlflow"}}},
        "hooks.registry writes to the registry of a models:/ or model-registry:// URI",
    ),
    (
        "a verdict for a registry without an address",
        {"model": {"storageUri": "models:/wine@a"}, "hooks": {"registry": {}}},
        "hooks.registry needs an address",
    ),
    ("a relative file", {"model": {"storageUri": "file://models"}}, "must name something behind"),
    (
        "an unknown field",
        {"model": {**MODEL, "storageURL": "s3://x"}},
        'unknown field "spec.model.storageURL"',
    ),
    ("a wrong type", {"replicas": "two"}, "spec.replicas"),
    ("a format that is no name", {"model": {**MODEL, "format": "ONNX "}}, "spec.model.format"),
    (
        "a sha256 that is none",
        {"model": {**MODEL, "sha256": "abc"}},
        "must be 64 lower-case hexadecimal digits",
    ),
    ("a duration that is none", {"model": {**MODEL, "pollInterval": "soon"}}, "spec.model.pollInterval"),
    ("negative replicas", {"replicas": -1}, "should be greater than or equal to 0"),
    (
        "replicas and autoscaling",
        {"replicas": 2, "autoscaling": {"maxReplicas": 3}},
        "give either spec.replicas or spec.autoscaling",
    ),
    (
        "more minReplicas than maxReplicas",
        {"autoscaling": {"minReplicas": 5, "maxReplicas": 3}},
        "minReplicas must not be above autoscaling.maxReplicas",
    ),
    (
        "sleep with a pod",
        {"autoscaling": {"minReplicas": 1, "maxReplicas": 3, "idleAfter": "15m"}},
        "autoscaling.idleAfter lets the model sleep, without a pod: set autoscaling.minReplicas to 0",
    ),
    (
        "no pod, and nothing that wakes one",
        {"autoscaling": {"minReplicas": 0, "maxReplicas": 3}},
        "autoscaling.minReplicas 0 needs autoscaling.idleAfter",
    ),
    (
        "a schedule that wakes what never sleeps",
        {"autoscaling": {"maxReplicas": 3, "wakeAt": [{"schedule": "0 7 * * *", "for": "1h"}]}},
        "autoscaling.wakeAt wakes a model that sleeps: set autoscaling.idleAfter",
    ),
    (
        "a light sleeper",
        {"autoscaling": {"minReplicas": 0, "maxReplicas": 3, "idleAfter": "1s"}},
        "autoscaling.idleAfter must be 5s or longer",
    ),
    (
        "messages that would not wake it",
        {
            "autoscaling": {"minReplicas": 0, "maxReplicas": 3, "idleAfter": "15m"},
            "server": {"stream": {**TOPICS, **NATS}},
        },
        "autoscaling.idleAfter counts and holds requests over HTTP and gRPC",
    ),
    (
        "a day of a second",
        {
            "autoscaling": {
                "minReplicas": 0,
                "maxReplicas": 1,
                "idleAfter": "15m",
                "wakeAt": [{"schedule": "0 7 * * *", "for": "1s"}],
            }
        },
        "autoscaling.wakeAt.for must be 1m or longer",
    ),
    (
        "a sink that is none",
        {"server": {"inputLog": {"sink": "printer"}}},
        "inputLog.sink must be stdout, a storage URI",
    ),
    (
        "a variable of the server's settings",
        {"server": {"env": [{"name": "MODEL_SERVER_PORT", "value": "1"}]}},
        "variables that begin with MODEL_SERVER_ are set from the fields",
    ),
    (
        "memory in no unit",
        {"server": {"resources": {"limits": {"memory": "1Gig"}}}},
        "spec.server.resources.limits.memory",
    ),
    (
        "a drift reference that is none",
        {"monitoring": {"drift": {"reference": "last"}}},
        "drift.reference must be package",
    ),
    (
        "a limit of data quality that allows everything",
        {"monitoring": {"dataQuality": {"limits": {"missing": 1}}}},
        "spec.monitoring.dataQuality.limits.missing",
    ),
    (
        "what is pinned and polled",
        {"model": {**MODEL, "sha256": "a" * 64, "pollInterval": "1m"}},
        "give either sha256 or pollInterval",
    ),
    ("hasty polling", {"model": {**MODEL, "pollInterval": "10ms"}}, "pollInterval must be at least 1s"),
    (
        "an image that is mounted by a tag",
        {"model": {"storageUri": "oci://registry.example.com/fraud:7", "mount": "image"}},
        "mount: image needs storageUri oci://registry/name@sha256:...",
    ),
    (
        "a bucket that is mounted as an image",
        {"model": {"storageUri": "s3://models/fraud/7", "mount": "image"}},
        "mount: image needs storageUri oci://registry/name@sha256:...",
    ),
    (
        "an image that is mounted, and cached too",
        {
            "model": {
                "storageUri": f"oci://registry.example.com/fraud@sha256:{'0' * 64}",
                "mount": "image",
                "cache": {"claimName": "c"},
            }
        },
        "mount: image downloads nothing: leave cache, pollInterval and secretName out",
    ),
    ("a mount of another kind", {"model": {**MODEL, "mount": "nfs"}}, "spec.model.mount"),
    ("a cache nowhere", {"model": {**MODEL, "cache": {}}}, "cache needs exactly one of claimName or hostPath"),
    (
        "a signature by nobody",
        {"model": {**MODEL, "signature": {}}},
        "signature needs exactly one of publicKey or identity",
    ),
    (
        "a public key in two places",
        {"model": {**MODEL, "signature": {"publicKey": {"secretName": "a", "configMapName": "a", "key": "k"}}}},
        "publicKey needs exactly one of secretName or configMapName",
    ),
    (
        "a public key in another namespace's Secret",
        {"model": {**MODEL, "signature": {"publicKey": {"secretName": "../kube-system/a", "key": "k"}}}},
        "signature.publicKey.secretName",
    ),
    (
        "a public key outside of its mount",
        {"model": {**MODEL, "signature": {"publicKey": {"secretName": "a", "key": "../storage/key"}}}},
        "signature.publicKey.key",
    ),
    (
        "an identity of an issuer without TLS",
        {"model": {**MODEL, "signature": {"identity": {"subject": "a@b.c", "issuer": "http://d.e"}}}},
        "signature.identity.issuer",
    ),
    ("an authority nowhere", {"model": {**MODEL, "ca": {}}}, "ca needs exactly one of configMapName or secretName"),
    (
        "an authority twice",
        {"model": {**MODEL, "ca": {"configMapName": "a", "secretName": "b"}}},
        "ca needs exactly one of configMapName or secretName",
    ),
    ("gRPC on the port of HTTP", {"server": {"grpcPort": 8080}}, "grpcPort must not be 80, 443, 8080 or 8089"),
    (
        "the Secret of another namespace",
        {"hooks": {"gates": [{"name": "g", "secretName": "../../kube-system/secrets/token"}]}},
        "spec.hooks.gates[0].secretName",
    ),
    (
        "a Secret for the storage that is a path",
        {"model": {"storageUri": "s3://models/a", "secretName": "../other"}},
        "spec.model.secretName",
    ),
    ("a gate nowhere", {"hooks": {"gates": [{"name": "g"}]}}, "a gate needs url, or secretName"),
    ("a notification to nobody", {"hooks": {"notifications": [{"name": "chat"}]}}, "a notification needs url"),
    ("a retraining by nobody", {"hooks": {"retrain": {}}}, "retrain needs url, or secretName"),
    (
        "a retraining by two",
        {
            "hooks": {
                "retrain": {"url": "http://x", "jobTemplate": {"spec": {"template": {"spec": {"containers": [{}]}}}}}
            }
        },
        "or else jobTemplate",
    ),
    (
        "a training Job that runs nothing",
        {"hooks": {"retrain": {"jobTemplate": {"spec": {"template": {}}}}}},
        "jobTemplate.spec.template.spec",
    ),
    (
        "metrics beside a target",
        {"autoscaling": {"maxReplicas": 3, "targetRequestsPerSecond": 5, "metrics": [{"type": "Resource"}]}},
        "give either autoscaling.metrics or target",
    ),
    (
        "a target of no requests",
        {"autoscaling": {"maxReplicas": 3, "targetRequestsPerSecond": 0}},
        "spec.autoscaling.targetRequestsPerSecond",
    ),
    (
        "a negative tolerance",
        {"autoscaling": {"maxReplicas": 3, "behavior": {"scaleUp": {"tolerance": -1}}}},
        "tolerance must not be negative",
    ),
    (
        "a policy without a period",
        {"autoscaling": {"maxReplicas": 3, "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 1}]}}}},
        "spec.autoscaling.behavior.scaleUp.policies[0].periodSeconds: Required value",
    ),
    (
        "no policy at all",
        {"autoscaling": {"maxReplicas": 3, "behavior": {"scaleDown": {"policies": []}}}},
        "spec.autoscaling.behavior.scaleDown.policies",
    ),
    (
        "a window of a day",
        {"autoscaling": {"maxReplicas": 3, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 86400}}}},
        "spec.autoscaling.behavior.scaleDown.stabilizationWindowSeconds",
    ),
    (
        "a key for Prometheus without a Secret",
        {"monitoring": {"serviceMonitor": True, "scrapeKey": "prometheus"}},
        "monitoring.scrapeKey is a key in the Secret of server.auth",
    ),
    (
        "metrics that Prometheus has no key for",
        {"monitoring": {"serviceMonitor": True}, "server": {"auth": {"secretName": "k", "protect": ["metrics"]}}},
        "Prometheus needs a key for protected metrics",
    ),
    (
        "a limit of nothing",
        {"server": {"auth": {"secretName": "k", "limits": [{"key": "a"}]}}},
        "a limit of an API key needs requestsPerSecond or concurrency",
    ),
    (
        "a burst of nothing",
        {"server": {"auth": {"secretName": "k", "limits": [{"key": "a", "concurrency": 1, "burst": 2}]}}},
        "burst goes with requestsPerSecond",
    ),
    (
        "protected probes",
        {"server": {"auth": {"secretName": "k", "protect": ["livez"]}}},
        'supported values: "metrics", "docs"',
    ),
    (
        "metrics that are protected twice",
        {"server": {"auth": {"secretName": "k", "protect": ["metrics", "metrics"]}}},
        "spec.server.auth.protect[1]: Duplicate value",
    ),
    ("a label with blanks", {"commonLabels": {"my team": "risk"}}, "commonLabels: a key must be a name"),
    ("a label of ours", {"commonLabels": {"modeldeploy.dev/name": "x"}}, "commonLabels: keys under modeldeploy.dev"),
    (
        "a label that we set",
        {"commonLabels": {"app.kubernetes.io/name": "x"}},
        "commonLabels: keys under modeldeploy.dev",
    ),
    ("a label with a long value", {"commonLabels": {"team": "x" * 64}}, "spec.commonLabels.team"),
    ("a value that is none", {"commonLabels": {"team": "risk & fraud"}}, "spec.commonLabels.team"),
    ("an annotation's key", {"commonAnnotations": {"a/b/c": ""}}, "commonAnnotations: a key must be a name"),
    (
        "an annotation of a controller",
        {"commonAnnotations": {"deployment.kubernetes.io/revision": "7"}},
        "commonAnnotations: keys under modeldeploy.dev",
    ),
    (
        "a retraining for no cause",
        {"hooks": {"retrain": {"url": "http://train", "drift": False}}},
        "retrain needs a cause: drift true",
    ),
    (
        "a retraining for an estimate of nothing",
        {"hooks": {"retrain": {"url": "http://train", "estimatedQuality": [{"name": "accuracy", "min": 0.9}]}}},
        "hooks.retrain.estimatedQuality needs monitoring.estimatedQuality true",
    ),
    (
        "an estimate of a loss",
        {
            "monitoring": {"estimatedQuality": True},
            "hooks": {"retrain": {"url": "http://train", "estimatedQuality": [{"name": "log-loss", "min": 0.9}]}},
        },
        "spec.hooks.retrain.estimatedQuality[0].name",
    ),
    (
        "an estimate beside another reference",
        {"monitoring": {"estimatedQuality": True, "drift": {"reference": "1000"}}},
        "monitoring.estimatedQuality needs drift.reference package",
    ),
    (
        "a retraining for a large accuracy",
        {"hooks": {"retrain": {"url": "http://train", "quality": [{"name": "accuracy", "max": 0.9}]}}},
        "log-loss needs max; accuracy",
    ),
]
