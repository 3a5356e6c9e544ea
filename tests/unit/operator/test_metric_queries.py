"""What a query is asked with: the templates of every kind of source are replaced."""

import pytest

from model_operator.api.analysis import DatadogSource, MetricSource, Source
from model_operator.engine.metric_queries import render_templates
from model_operator.errors import ProviderError

VARIABLES = {"name": "fraud", "namespace": "ml", "revision": "6f8d", "range": "60s"}


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        pytest.param(
            Source(url="http://p/{{namespace}}", query='up{r="{{ revision }}"}[{{range}}]'),
            Source(url="http://p/ml", query='up{r="6f8d"}[60s]'),
            id="Prometheus: address and query",
        ),
        pytest.param(
            Source(url="http://w/{{name}}?r={{revision}}"),
            Source(url="http://w/fraud?r=6f8d"),
            id="a web service's URL",
        ),
        pytest.param(
            DatadogSource(query="avg:load{revision:{{revision}}}", secret_name="keys"),
            DatadogSource(query="avg:load{revision:6f8d}", secret_name="keys"),
            id="Datadog: the query, whose own braces stay",
        ),
    ],
)
def test_templates_are_replaced(source: MetricSource, rendered: MetricSource) -> None:
    assert render_templates(source, VARIABLES) == rendered


def test_an_unknown_template_is_an_error_that_lists_the_known_ones() -> None:
    wrong = DatadogSource(query="avg:load{pod:{{pod}}}", secret_name="keys")
    known = r"\{\{name\}\}, \{\{namespace\}\}, \{\{range\}\}, \{\{revision\}\}"
    with pytest.raises(ProviderError, match=rf"unknown template \{{\{{pod\}}\}}; write one of {known}"):
        render_templates(wrong, VARIABLES)
