"""Strategies and steps that cannot work, and what the API server says of each."""

from spec_parts import Row, canary, step

STRATEGIES: list[Row] = [
    (
        "two strategies",
        {"strategy": {"canary": {}, "blueGreen": {}}},
        "needs exactly one of canary, blueGreen",
    ),
    ("a negative surge", canary(maxSurge=-1), "must be a number of pods from 0 to 1000"),
    ("a surge of words", canary(maxSurge="some"), "or a percentage such as 25%"),
    (
        "a canary without room",
        {"replicas": 1, "strategy": {"canary": {"maxSurge": 0}}},
        "a canary of one replica without a router needs room",
    ),
    (
        "a canary without room, in percent",
        {"replicas": 1, "strategy": {"canary": {"maxSurge": "0%", "maxUnavailable": 1}}},
        "a canary of one replica without a router needs room",
    ),
    (
        "an autoscaled canary that may have one pod, without room",
        {
            "autoscaling": {"minReplicas": 1, "maxReplicas": 3},
            "strategy": {"canary": {"maxSurge": 0, "maxUnavailable": 1}},
        },
        "a canary of one replica without a router needs room",
    ),
    ("a surge beyond all measure", canary(maxSurge=100_000_000), "must be a number of pods from 0 to 1000"),
    ("a duration beyond all measure", canary(maxPauseDuration="9999999999999d"), "maxPauseDuration"),
    (
        "a rollout without room",
        canary(maxSurge=0, maxUnavailable=0),
        "maxSurge and maxUnavailable must not both be 0",
    ),
    (
        "weights that do not grow",
        canary(steps=[{"setWeight": 50}, {"setWeight": 20}]),
        "must grow from step to step",
    ),
    ("a weight twice", canary(steps=[{"setWeight": 5}, {"setWeight": 5}]), "must grow from step to step"),
    ("a weight above 100", step(setWeight=101), "should be less than or equal to 100"),
    ("a step of two things", step(setWeight=5, pause={}), "a step does exactly one thing"),
    ("an empty step", step(), "a step does exactly one thing"),
    ("a pause that is no duration", step(pause={"duration": "a while"}), "steps[0].pause.duration"),
    ("an empty canary scale", step(setCanaryScale={}), "needs exactly one of replicas, weight"),
]
