"""What the dashboards are built of: variables that depend on each other, panels, and the PromQL that they share.

The builders are those of Grafana's Foundation SDK (https://grafana.github.io/grafana-foundation-sdk/). Expressions
on the operator's metrics take the maximum over its replicas, since a standby may still expose old series.
"""

import json
from collections.abc import Sequence
from typing import TypeAlias

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as values
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Panel: TypeAlias = Builder[models.Panel]
Query = tuple[str, str]  # expression, legend

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "modeldeploy"
#: Width of the grid, and of half of it.
FULL, HALF, THIRD, SIXTH = 24, 12, 8, 4

#: Selectors of one model: the operator calls it `name`, its servers `model`.
RESOURCE = 'namespace="$namespace",name="$model"'
SERVED = 'namespace="$namespace",model="$model"'
#: The same, limited to the chosen revisions.
REVISIONS = f'{SERVED},revision=~"$revision"'


def operator_value(metric: str, selector: str, *labels: str) -> str:
    """Return the value of a gauge of the operator for each resource and the given labels."""
    return f"max by ({', '.join(('namespace', 'name', *labels))}) (modeldeploy_operator_{metric}{{{selector}}})"


def rate_of(metric: str, selector: str, *labels: str) -> str:
    """Return the increase per second of a counter, summed by labels."""
    return f"sum by ({', '.join(labels)}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def quantile(share: float, histogram: str, selector: str, *labels: str) -> str:
    """Return a quantile of a histogram over the rate interval."""
    return f"histogram_quantile({share:g}, {rate_of(f'{histogram}_bucket', selector, 'le', *labels)})"


def error_ratio(selector: str, *labels: str) -> str:
    """Return the share of predictions answered with a 5xx; 0 for a series without errors."""
    total = rate_of("modeldeploy_requests_total", selector, *labels)
    failed = rate_of("modeldeploy_requests_total", f'{selector},code=~"5.."', *labels)
    return f"({failed} or {total} * 0) / ({total} > 0)"


def new(uid: str, title: str, description: str, *variables: Builder[models.VariableModel]) -> dashboard.Dashboard:
    """Return an empty dashboard with the data source as its first variable, and links to the others."""
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    links = dashboard.DashboardLink("Dashboards of modeldeploy").type(models.DashboardLinkType.DASHBOARDS)
    links = links.tags([TAG]).as_dropdown(True).include_vars(True).keep_time(True)
    made = dashboard.Dashboard(title).uid(uid).description(description).tags([TAG]).timezone("browser")
    made = made.tooltip(models.DashboardCursorSync.CROSSHAIR).time("now-1h", "now").refresh("30s").link(links)
    made = made.with_variable(source)
    for variable in variables:
        made = made.with_variable(variable)
    return made


def variable(name: str, label: str, query: str, *, many: bool = False) -> dashboard.QueryVariable:
    """Return a variable whose values a query gives; with `many`, several or all may be chosen."""
    made = dashboard.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    made = made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    if not many:
        return made
    everything = models.VariableOption(selected=True, text="All", value="$__all")
    return made.multi(True).include_all(True).all_value(".*").current(everything)


def namespaces(*, many: bool = False) -> dashboard.QueryVariable:
    """Return the variable of the namespaces that have models."""
    return variable("namespace", "Namespace", "label_values(modeldeploy_operator_phase, namespace)", many=many)


def one_model() -> Sequence[dashboard.QueryVariable]:
    """Return the variables that choose a model: its namespace, then its name."""
    names = 'label_values(modeldeploy_operator_phase{namespace="$namespace"}, name)'
    return namespaces(), variable("model", "Model", names)


def revisions() -> dashboard.QueryVariable:
    """Return the variable of the revisions whose servers were scraped."""
    return variable("revision", "Revision", f"label_values(modeldeploy_model_info{{{SERVED}}}, revision)", many=True)


def _query(query: Query, number: int) -> prometheus.Dataquery:
    expression, legend = query
    return prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + number))


def graph(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    width: int = HALF,
    stacked: bool = False,
    logarithmic: bool = False,
) -> timeseries.Panel:
    """Return values over time."""
    legend = common.VizLegendOptions().display_mode(values.LegendDisplayMode.LIST).show_legend(True)
    legend = legend.placement(values.LegendPlacement.BOTTOM)
    panel = timeseries.Panel().title(title).description(description).datasource(SOURCE).unit(unit).legend(legend)
    panel = panel.height(8).span(width).fill_opacity(25 if stacked else 8)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(values.StackingMode.NORMAL))
    if logarithmic:
        panel = panel.scale_distribution(common.ScaleDistributionConfig().type(values.ScaleDistribution.LOG).log(10))
    else:
        panel = panel.axis_soft_min(0)
    for number, query in enumerate(queries):
        panel = panel.with_target(_query(query, number).range())
    return panel


def figure(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str = "short",
    width: int = SIXTH,
    bad_from: float | None = None,
) -> stat.Panel:
    """Return one current number; from `bad_from` on it is red. With a legend, the series' names are shown."""
    steps = [models.Threshold(color="green", value=None)]
    if bad_from is not None:
        steps.append(models.Threshold(color="red", value=bad_from))
    text = values.BigValueTextMode.VALUE if not query[1] else values.BigValueTextMode.NAME
    panel = stat.Panel().title(title).description(description).datasource(SOURCE).unit(unit).height(4).span(width)
    panel = panel.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).text_mode(text)
    return panel.with_target(_query(query, 0).instant())


def listing(
    title: str, description: str, expression: str, hidden: Sequence[str], *, width: int = FULL, link: str = ""
) -> table.Panel:
    """Return the labels of the current series as a table; `link` is the uid of the dashboard that a row opens."""
    organize = models.DataTransformerConfig(
        id_val="organize", options={"excludeByName": dict.fromkeys(("Time", "Value", *hidden), True)}
    )
    panel = table.Panel().title(title).description(description).datasource(SOURCE).height(8).span(width)
    panel = panel.with_transformation(organize)
    if link:
        here = "var-datasource=${datasource}&var-namespace=${__data.fields.namespace}&var-model=${__data.fields.name}"
        opens = dashboard.DashboardLink("Open the model").type(models.DashboardLinkType.LINK).url(f"/d/{link}?{here}")
        panel = panel.data_links([opens])
    return panel.with_target(_query((expression, ""), 0).instant().format(PromQueryFormat.TABLE))


def row(title: str) -> dashboard.Row:
    """Return the head of a group of panels."""
    return dashboard.Row(title)


def as_json(made: models.Dashboard) -> str:
    """Return the JSON that Grafana imports. `id` is absent: Grafana finds a dashboard by its uid."""
    content = json.loads(json.dumps(made, cls=JSONEncoder))
    content.pop("id", None)
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
