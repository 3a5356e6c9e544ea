"""Analyses and A/B tests that cannot work, and what the API server says of each."""

from typing import Any

from spec_parts import Row, ab_test, canary, step

COUNTS = {"address": "http://p", "query": "bought", "sampleQuery": "seen"}


def metric(**fields: Any) -> dict[str, Any]:
    return canary(analysis={"metrics": [fields]})


def guard(*, query: str = "up", **fields: Any) -> dict[str, Any]:
    return metric(name="guard", prometheus={"address": "http://p", "query": query}, **fields)


def web(**fields: str) -> dict[str, Any]:
    return metric(name="guard", max=1, web={"url": "http://w", **fields})


ANALYSES: list[Row] = [
    (
        "an interval of days",
        canary(analysis={"interval": "1d", "metrics": [{"name": "errors", "fail": {}}]}),
        "analysis.interval",
    ),
    (
        "an interval of no time",
        canary(analysis={"interval": "0s", "metrics": [{"name": "errors", "fail": {}}]}),
        "analysis.interval must be 1s or longer",
    ),
    (
        "a guard that compares",
        canary(analysis={"metrics": [{"name": "queue", "pass": {}, "web": {"url": "https://q", "jsonPath": "$.n"}}]}),
        "decides by min, max or failureCondition",
    ),
    (
        "a guard that no value meets",
        canary(
            analysis={"metrics": [{"name": "q", "min": 10, "max": 3, "web": {"url": "https://q", "jsonPath": "$.n"}}]}
        ),
        "min must not be above max",
    ),
    (
        "an accuracy in percent",
        canary(analysis={"metrics": [{"name": "accuracy", "min": 90}]}),
        "min must be above 0 and up to 1",
    ),
    ("errors in percent", canary(analysis={"metrics": [{"name": "errors", "max": 5}]}), "max must be above 0 and up"),
    (
        "a data set without a scheme",
        step(evaluate={"dataset": "holdout.csv", "target": "label", "metrics": [{"name": "accuracy", "min": 0.9}]}),
        "dataset must begin with one of s3://",
    ),
    (
        "a shortest time above the longest",
        step(analysis={"minDuration": "2h", "maxDuration": "1h"}),
        "minDuration must not be above maxDuration",
    ),
    (
        "a replay without a bound",
        step(replay={"requests": 100}),
        "a replay needs agreement, distance or latency",
    ),
    (
        "an evaluation that demands nothing",
        step(evaluate={"dataset": "s3://d", "target": "label", "metrics": [{"name": "accuracy"}]}),
        "needs min, max or maxDropFromStable",
    ),
    (
        "groups that are compared and not named",
        step(
            evaluate={
                "dataset": "s3://d",
                "target": "label",
                "metrics": [{"name": "worst-group-accuracy", "min": 0.9}],
            }
        ),
        "metrics that compare groups need groups",
    ),
    (
        "a least difference between groups",
        step(
            evaluate={
                "dataset": "s3://d",
                "target": "label",
                "groups": ["sex"],
                "metrics": [{"name": "equalized-odds-difference", "min": 0.1}],
            }
        ),
        "differences between groups are better when they are small: write max",
    ),
    (
        "a largest accuracy of the worst group",
        step(
            evaluate={
                "dataset": "s3://d",
                "target": "label",
                "groups": ["sex"],
                "metrics": [{"name": "worst-group-accuracy", "max": 0.9}],
            }
        ),
        "worst-group-accuracy is better when it is large: write min",
    ),
    (
        "a metric of groups that nobody counts",
        metric(name="group-accuracy", fail={}),
        "a metric of groups needs its slice in monitoring.slices",
    ),
    (
        "a metric of another slice",
        {
            **metric(name="selection-rate-difference", max=0.1, slice="age"),
            "monitoring": {"slices": [{"name": "sex"}]},
        },
        "a metric of groups needs its slice in monitoring.slices",
    ),
    (
        "a difference without its bound",
        {**metric(name="equalized-odds-difference", fail={}), "monitoring": {"slices": [{"name": "sex"}]}},
        "differences between groups have max alone",
    ),
    (
        "a least accuracy of groups",
        {**metric(name="group-accuracy", fail={}, min=0.9), "monitoring": {"slices": [{"name": "sex"}]}},
        "group-accuracy compares each group with the same group of stable",
    ),
    (
        "a slice of errors",
        {**metric(name="errors", fail={}, slice="sex"), "monitoring": {"slices": [{"name": "sex"}]}},
        "slice names the groups of group-accuracy and of the differences between groups",
    ),
    (
        "slices of several workers",
        {"server": {"workers": 2}, "monitoring": {"slices": [{"name": "sex"}]}},
        "monitoring.slices needs server.workers 1",
    ),
    ("a metric that decides nothing", metric(name="errors"), "a metric decides nothing without"),
    (
        "data quality that no server measures",
        metric(name="data-quality", fail={}),
        "data-quality and outliers compare requests with the training data, which the servers do with",
    ),
    (
        "an absolute limit of outliers",
        {**metric(name="outliers", fail={}, max=0.1), "monitoring": {"dataQuality": {}}},
        "data-quality and outliers compare the canary's requests with those of stable: they have fail and pass",
    ),
    ("an unknown metric", metric(name="vibes", max=1), "unknown metric; built in are errors, refusals, latency"),
    ("an alpha of 0", canary(analysis={"alpha": 0, "metrics": [{"name": "errors", "fail": {}}]}), "alpha"),
    (
        "an interval longer than the step",
        canary(
            steps=[{"analysis": {"maxDuration": "1m"}}],
            analysis={"interval": "5m", "metrics": [{"name": "errors", "fail": {}}]},
        ),
        "analysis.interval is longer than an analysis step's maxDuration",
    ),
    ("a least rate of errors", metric(name="errors", min=0.1), "better when they are small: write max"),
    ("a largest accuracy", metric(name="accuracy", max=0.9), "better when they are large: write min"),
    (
        "a drop of errors",
        metric(name="errors", fail={"maxDropFromStable": 0.1}),
        "maxDropFromStable is for metrics of feedback",
    ),
    ("latency without a limit", metric(name="latency", max=1), "latency needs slowerThan"),
    ("an agreement of none", metric(name="shadow-agreement", min=0), "shadow-agreement needs min"),
    ("an agreement of more than all", metric(name="shadow-agreement", min=1.5), "above 0 and up to 1"),
    ("a distance of nothing", metric(name="shadow-distance", max=0), "shadow-distance needs max"),
    ("a ratio of agreement", metric(name="shadow-agreement", min=0.9, fail={}), "they have min and max, and no fail"),
    ("a tolerated error", metric(name="errors", max=0.1, tolerance=1), "tolerance says which numbers shadow-agreement"),
    ("a distance of errors", metric(name="errors", max=0.1, distance="Relative"), "distance says how shadow-distance"),
    (
        "a failure condition on nothing",
        metric(name="errors", failureCondition="result > 1"),
        "failureCondition judges the result of prometheus, web or datadog",
    ),
    (
        "a condition of two",
        guard(failureCondition="result > 1 || result < 0"),
        "failureCondition compares result with a",
    ),
    ("a condition on nothing known", guard(failureCondition="value > 1"), "failureCondition compares result with a"),
    ("an unknown template", guard(max=1, query='errors{pod="{{pod}}"}'), "unknown template: {{name}}, {{namespace}}"),
    (
        "a test with an unknown template",
        ab_test(metric="revenue", prometheus={**COUNTS, "sampleQuery": "seen[{{interval}}]"}),
        "unknown template: {{name}}, {{namespace}}",
    ),
    ("an unknown template in a URL", web(url="http://w/{{model}}"), "unknown template: {{name}}, {{namespace}}"),
    ("a path of kubectl's", web(jsonPath="{.value}"), "jsonPath begins with $ and goes on with names and places"),
    ("a path that searches", web(jsonPath="$..value"), "jsonPath begins with $ and goes on with names and places"),
    ("a path with quotes", web(jsonPath="$['value']"), "jsonPath begins with $ and goes on with names and places"),
    (
        "a metric of two sources",
        metric(
            name="guard",
            max=1,
            prometheus={"address": "http://p", "query": "up"},
            web={"url": "http://w"},
        ),
        "a metric has one source: prometheus, web or datadog",
    ),
    (
        "a query of Datadog with an unknown template",
        metric(name="guard", max=1, datadog={"query": "avg:load{pod:{{pod}}}", "secretName": "datadog"}),
        "unknown template: {{name}}, {{namespace}}",
    ),
    (
        "a query of Datadog without keys",
        metric(name="guard", max=1, datadog={"query": "avg:load{*}"}),
        "datadog.secretName: Required value",
    ),
    (
        "a query of Datadog over no time",
        metric(name="guard", max=1, datadog={"query": "avg:load{*}", "secretName": "datadog", "interval": "0s"}),
        "datadog.interval must be 1s or longer",
    ),
    (
        "a test without a user",
        ab_test(stickiness={}),
        "stickiness needs exactly one of header or cookie",
    ),
    ("a test of errors", ab_test(metric="errors", prometheus=COUNTS), "errors are judged in every A/B test"),
    ("a test of nothing that feedback knows", ab_test(metric="revenue"), "unknown metric; feedback knows conversion"),
    (
        "a test without a router",
        {"strategy": {"abTest": {"metric": "conversion", "minimumSampleSize": 100}}},
        "trafficRouting: Required value",
    ),
    (
        "a cookie with a space in its name",
        ab_test(stickiness={"cookie": "a b"}),
        "stickiness.cookie in body should match",
    ),
]
