"""Renders pages and the parts of them that are sent again when something changes. Everything is escaped."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache

import jinja2
from markupsafe import Markup

from modeldeploy import pools
from modeldeploy.dashboard.pooled import PoolView
from modeldeploy.dashboard.view.explanation import Explained
from modeldeploy.dashboard.view.model import ModelView
from modeldeploy.dashboard.view.prediction import Form
from modeldeploy.dashboard.view.rates import Sparkline
from modeldeploy.dashboard.view.rows import Filter, Row, Totals, totals_of
from modeldeploy.durations import format_duration
from modeldeploy.fleet import table
from modeldeploy.fleet.report import Fleet
from modeldeploy.fleet.table import summary_lines
from modeldeploy.pools import Pool
from modeldeploy.report.chart import HEIGHT, LEFT, RIGHT, WIDTH, clock

#: Parts of the page of one model, each a template: an event of the stream replaces one of them.
SECTIONS = ("head", "steps", "evidence", "charts", "revisions", "inputs", "groups", "history", "events", "manifest")
PHASES = (
    "Healthy",
    "Progressing",
    "Paused",
    "Promoting",
    "RollingBack",
    "Degraded",
    "Sleeping",
    "Waking",
    "Pending",
    "Terminating",
)
#: Seconds for which the age in a rendered row holds.
_AGES_LAST = 60
_TONES = {
    "Healthy": "good",
    "Ready": "good",
    "Sleeping": "good",
    "Degraded": "bad",
    "RollingBack": "bad",
    "Paused": "warn",
    "Unknown": "bad",
}


def _age(at: datetime | None) -> str:
    """Write how long ago a time was, by its largest unit."""
    return format_duration(datetime.now(UTC) - at).partition(" ")[0] if at else ""


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 0.05 else "0"


def _environment() -> jinja2.Environment:
    loaders = [jinja2.PackageLoader("modeldeploy.dashboard"), jinja2.PackageLoader("modeldeploy.report", ".")]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "age": _age,
        "iso": lambda at: at.isoformat() if at else "",
        "tone": lambda phase: _TONES.get(phase, "busy"),
        "rate": _rate,
    }
    environment.globals |= {
        "spark_width": Sparkline.WIDTH,
        "spark_height": Sparkline.HEIGHT,
        "clock": clock,
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
    }
    return environment


_TEMPLATES = _environment()


def list_page(
    rows: Sequence[Row], chosen: Filter, notices: Mapping[str, str], *, cluster: str, is_loaded: bool, cursor: str
) -> str:
    """Return the page of all models; those that `chosen` leaves out are there, and hidden."""
    return _TEMPLATES.get_template("list.html.j2").render(
        rows=rows,
        chosen=chosen,
        shown=sum(chosen.takes(row) for row in rows),
        totals=totals_of(rows),
        namespaces=sorted({row.summary.namespace for row in rows}),
        phases=PHASES,
        notices=notices,
        cluster=cluster,
        is_loaded=is_loaded,
        cursor=cursor,
        row_part=row_part,
    )


def row_part(row: Row, *, is_hidden: bool = False) -> Markup:
    """Return one row of the list."""
    return _row(row, is_hidden, int(time.time() // _AGES_LAST))


@lru_cache(maxsize=4096)
def _row(row: Row, is_hidden: bool, _minute: int) -> Markup:
    """Render one row; most of them are the same in the next page. Its age is renewed by the script, or each minute."""
    return Markup(_TEMPLATES.get_template("row.html.j2").render(row=row, is_hidden=is_hidden))  # noqa: S704 - escaped


def totals_part(totals: Totals) -> str:
    """Return what the head of the list counts."""
    return _TEMPLATES.get_template("totals.html.j2").render(totals=totals)


def notices_part(notices: Mapping[str, str]) -> str:
    """Return what keeps the dashboard from reading."""
    return _TEMPLATES.get_template("notices.html.j2").render(notices=notices)


def model_page(view: ModelView, notices: Mapping[str, str], *, cluster: str, can_act: bool) -> str:
    """Return the page of one model."""
    return _TEMPLATES.get_template("model.html.j2").render(
        view=view, sections=model_parts(view, can_act=can_act), notices=notices, cluster=cluster, can_act=can_act
    )


def model_parts(view: ModelView, *, can_act: bool) -> dict[str, str]:
    """Return the parts of the page of one model, by name."""
    return {
        name: _TEMPLATES.get_template(f"model/{name}.html.j2").render(view=view, can_act=can_act) for name in SECTIONS
    }


def form_part(form: Form, unexplained: str) -> str:
    """Return the form to try a prediction; `unexplained` says why the model explains nothing."""
    return _TEMPLATES.get_template("form.html.j2").render(form=form, unexplained=unexplained)


def key_part(message: str, *, is_first: bool) -> str:
    """Return the form that asks for the API key without which a model shows no form."""
    return _TEMPLATES.get_template("key.html.j2").render(message=message, is_first=is_first)


def explanation_part(explained: Explained) -> str:
    """Return the bars of an explanation."""
    return _TEMPLATES.get_template("explanation.html.j2").render(explained=explained)


def fleet_page(fleet: Fleet, notices: Mapping[str, str], *, cluster: str) -> str:
    """Return the page of what all models use and cost."""
    now = datetime.now(UTC)
    return _TEMPLATES.get_template("fleet.html.j2").render(
        fleet=fleet, summary=summary_lines(fleet), words=table, now=now, notices=notices, cluster=cluster
    )


def pools_page(found: Sequence[Pool], notices: Mapping[str, str], *, cluster: str) -> str:
    """Return the page of all pools."""
    return _TEMPLATES.get_template("pools.html.j2").render(pools=found, notices=notices, cluster=cluster)


def pool_page(view: PoolView, notices: Mapping[str, str], *, cluster: str) -> str:
    """Return the page of one pool."""
    return _TEMPLATES.get_template("pool.html.j2").render(view=view, words=pools, notices=notices, cluster=cluster)


def message_page(title: str, message: str, *, cluster: str = "") -> str:
    """Return a page that says one thing."""
    return _TEMPLATES.get_template("message.html.j2").render(title=title, message=message, cluster=cluster, notices={})
