"""What models use, waste and cost, from what their pods said."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from modeldeploy.dashboard.exposition import look_of, series_of
from modeldeploy.fleet.quantities import GIB, Resources, number_of, requested_by
from modeldeploy.fleet.rates import HOURS_A_MONTH, BadRates, Rates
from modeldeploy.fleet.report import Fleet, document_of, fleet_of
from modeldeploy.fleet.table import cpu, fleet_table, last_request, memory, summary_lines
from modeldeploy.fleet.usage import Look, ModelUse, PodUse, by_pod, use_of
from modeldeploy.fleet.window import SECONDS, Window

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
NOW = NOON.timestamp()
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
RATES = Rates(currency="EUR", cpu_hour=0.04, gib_hour=0.005, gpu_hour=1.0)
FOUR_CPUS = Resources(cpu=4, memory=8 * GIB)


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        ("250m", 0.25),
        ("2", 2),
        (2, 2),
        ("1.5Gi", 1.5 * GIB),
        ("500M", 5e8),
        ("2e3", 2000),
        ("1E", 1e18),
        pytest.param("many", 0, id="no quantity is nothing"),
        pytest.param("1.2.3", 0, id="no number is nothing"),
    ],
)
def test_a_quantity_is_a_number(quantity: object, number: float) -> None:
    assert number_of(quantity) == pytest.approx(number)


def test_a_pod_requests_what_its_containers_do_and_a_limit_stands_for_a_request() -> None:
    server = {"resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": 2, "memory": "1Gi", "nvidia.com/gpu": 1}}}
    sidecar = {"resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}
    assert requested_by([server, sidecar, {}]) == Resources(cpu=0.6, memory=GIB + 64 * 2**20, gpus=1)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        pytest.param(["EUR"], "rates are a mapping", id="a list"),
        pytest.param({"cpuHour": 1}, "rates need a currency", id="no currency"),
        pytest.param({"currency": "EUR"}, "rates need a price", id="no price"),
        pytest.param({"currency": "EUR", "cpuhour": 1}, "no 'cpuhour'; known are currency, cpuHour", id="misspelt"),
        pytest.param({"currency": "EUR", "cpuHour": -1}, "cpuHour is a price of one hour", id="a negative price"),
        pytest.param({"currency": "EUR", "gpuHour": "1"}, "gpuHour is a price of one hour", id="a text"),
    ],
)
def test_a_rate_card_at_fault_is_told_by_its_field(document: Any, said: str) -> None:
    with pytest.raises(BadRates, match=said):
        Rates.from_document(document)


def test_a_month_costs_730_hours_of_everything() -> None:
    rates = Rates.from_document({"currency": "EUR", "cpuHour": 0.04, "gibHour": 0.005, "gpuHour": 1})
    assert rates == RATES
    hour = 2 * 0.04 + 4 * 0.005 + 1.0
    assert rates.per_month(Resources(cpu=2, memory=4 * GIB, gpus=1)) == pytest.approx(hour * HOURS_A_MONTH)


def look(at: float, requests: float, cpu: float | None = 10.0, **more: Any) -> Look:
    return Look(at=at, requests=requests, cpu_seconds=cpu, **{"memory": GIB, "started": NOW - 7200, **more})


def test_what_a_server_of_ones_own_uses_is_not_known() -> None:
    pod = PodUse(
        requested=FOUR_CPUS, is_metered=True, first=look(NOW - 10, 0, 0), last=look(NOW, 50, 1, last_request=NOW - 3)
    )
    use = use_of("risk", "chat", [pod])
    assert (use.used, use.idle, use.silent) == (None, Resources(), 0)
    assert use.per_second == pytest.approx(5)
    assert use.last_request is not None


def test_between_two_looks_requests_and_processor_time_are_rates() -> None:
    pod = PodUse(requested=FOUR_CPUS, first=look(NOW - 10, 100, 10), last=look(NOW, 150, 15, last_request=NOW - 3))
    use = use_of("risk", "fraud", [pod, pod])
    assert use.per_second == pytest.approx(10)
    assert use.used == Resources(cpu=1.0, memory=2 * GIB)
    assert use.idle == Resources(cpu=7.0, memory=14 * GIB)
    assert use.last_request == NOON - timedelta(seconds=3)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(None, id="one look"),
        pytest.param(look(NOW, 7200, 3600), id="the same look twice"),
        pytest.param(look(NOW - 10, 9000, 800, started=NOW - 90_000), id="a pod that started again between two"),
    ],
)
def test_otherwise_they_are_averages_since_the_pod_started(first: Look | None) -> None:
    use = use_of("risk", "fraud", [PodUse(requested=FOUR_CPUS, first=first, last=look(NOW, 7200, 3600))])
    assert (use.per_second, use.used and use.used.cpu) == (1.0, 0.5)


def test_a_pod_that_uses_more_than_it_requests_has_nothing_idle_and_costs_what_it_uses() -> None:
    asked = Resources(cpu=0.1, memory=GIB / 2)
    pod = PodUse(requested=asked, first=look(NOW - 10, 0, 0), last=look(NOW, 0, 20))
    fleet = fleet_of([use_of("risk", "fraud", [pod])], RATES, now=NOON, unasked_after=DAY)
    assert fleet.waste == 0
    assert fleet.cost == pytest.approx(RATES.per_month(Resources(cpu=2, memory=GIB)))


def test_a_pod_that_tells_nothing_costs_and_is_not_called_idle() -> None:
    old = Look(at=NOW, requests=7)
    use = use_of("risk", "fraud", [PodUse(requested=FOUR_CPUS), PodUse(requested=FOUR_CPUS, last=old)])
    assert (use.pods, use.silent, use.used, use.idle, use.quiet_since) == (2, 2, None, Resources(), None)
    fleet = fleet_of([use], RATES, now=NOON, unasked_after=DAY)
    assert (fleet.waste, fleet.unasked, fleet.silent) == (0, 0, 2)
    assert fleet.cost == pytest.approx(RATES.per_month(Resources(cpu=8, memory=16 * GIB)))
    assert "2 pods told nothing" in summary_lines(fleet)[-1]


def a_use(name: str, *, cpu: float = 0, memory: float = 0, gpus: float = 0, quiet: timedelta | None = None) -> ModelUse:
    requested = Resources(cpu=cpu, memory=memory, gpus=gpus)
    return ModelUse(
        namespace="risk",
        name=name,
        pods=1,
        requested=requested,
        used=Resources(),
        idle=Resources(cpu=cpu, memory=memory),
        last_request=None if quiet is None else NOON - quiet,
    )


@pytest.mark.parametrize(
    ("use", "is_unasked"),
    [
        pytest.param(a_use("asked", quiet=HOUR), False, id="asked an hour ago"),
        pytest.param(a_use("quiet", quiet=DAY), True, id="the time itself is enough"),
        pytest.param(a_use("unknown"), False, id="nobody knows"),
        pytest.param(ModelUse(namespace="risk", name="new", pods=1, since=NOON - HOUR), False, id="just started"),
        pytest.param(ModelUse(namespace="risk", name="never", pods=1, since=NOON - 2 * DAY), True, id="never asked"),
        pytest.param(ModelUse(namespace="risk", name="asleep"), False, id="without pods nothing is wasted"),
    ],
)
def test_a_model_is_unasked_after_so_long_without_a_request(use: ModelUse, is_unasked: bool) -> None:
    fleet = fleet_of([use], None, now=NOON, unasked_after=DAY)
    assert fleet.rows[0].is_unasked is is_unasked


def names(fleet: Fleet) -> list[str]:
    return [row.use.name for row in fleet.rows]


def test_models_are_ordered_by_waste() -> None:
    uses = [
        a_use("busy"),
        a_use("memory", memory=40 * GIB),
        a_use("cpu", cpu=4),
        a_use("gpu", gpus=1, quiet=2 * DAY),
        a_use("gpu-asked", gpus=8, quiet=HOUR),
    ]
    assert names(fleet_of(uses, RATES, now=NOON, unasked_after=DAY)) == ["gpu", "memory", "cpu", "busy", "gpu-asked"]
    assert names(fleet_of(uses, None, now=NOON, unasked_after=DAY)) == ["gpu", "cpu", "memory", "busy", "gpu-asked"]


def test_without_rates_no_cost_is_shown_and_that_is_said() -> None:
    fleet = fleet_of([a_use("cpu", cpu=4)], None, now=NOON, unasked_after=DAY)
    document = document_of(fleet)
    assert document["note"] == "no rates given"
    assert "costPerMonth" not in document["models"][0]
    assert "no rates given, so that no cost is shown" in summary_lines(fleet)[0]
    assert "COST" not in shown(fleet)


def shown(fleet: Fleet) -> str:
    console = Console(width=300)
    with console.capture() as capture:
        console.print(fleet_table(fleet, now=NOON, with_namespace=True, is_wide=True))
    return capture.get()


def test_the_report_has_the_money_and_its_sums() -> None:
    fleet = fleet_of([a_use("cpu", cpu=4), a_use("gpu", gpus=1, quiet=2 * DAY)], RATES, now=NOON, unasked_after=DAY)
    document = document_of(fleet)
    assert [one["wastePerMonth"] for one in document["models"]] == [730.0, 116.8]
    assert document["total"]["wastePerMonth"] == 846.8
    assert document["currency"] == "EUR"
    text = shown(fleet)
    assert "COST/MONTH (EUR)" in text
    assert "2d ago" in text
    assert summary_lines(fleet) == [
        "2 models; idle: 4 CPUs, 0 GiB of memory, 1 GPU; 846.80 of 846.80 EUR a month",
        "nobody asks gpu",
    ]


@pytest.mark.parametrize(
    ("use", "said"),
    [
        pytest.param(a_use("asked", quiet=HOUR), "1h ago", id="asked"),
        pytest.param(ModelUse(namespace="a", name="b", pods=1, since=NOON - 3 * DAY), "none in 3d", id="never"),
        pytest.param(ModelUse(namespace="a", name="b"), "no pods", id="asleep"),
        pytest.param(ModelUse(namespace="a", name="b", pods=1), "-", id="unknown"),
    ],
)
def test_when_a_model_was_asked_is_said(use: ModelUse, said: str) -> None:
    assert last_request(use, NOON) == said


@pytest.mark.parametrize(
    ("use", "said"),
    [
        pytest.param(use_of("a", "b", [PodUse(requested=FOUR_CPUS)]), ("- of 4", "- of 8 GiB"), id="requested"),
        pytest.param(
            use_of("a", "b", [PodUse(requested=Resources(), last=look(NOW, 7200, 3600))]),
            ("0.5, none requested", "1 GiB, none requested"),
            id="used, and not requested",
        ),
        pytest.param(ModelUse(namespace="a", name="b"), ("-", "-"), id="asleep"),
    ],
)
def test_what_nobody_requests_is_not_said_to_be_nothing_of_nothing(use: ModelUse, said: tuple[str, str]) -> None:
    assert (cpu(use), memory(use)) == said


METRICS = b"""
modeldeploy_requests_total{code="200"} 40
modeldeploy_requests_total{code="500"} 2
modeldeploy_last_request_timestamp_seconds{model="fraud"} 1.777e+09
process_cpu_seconds_total 12.5
process_resident_memory_bytes NaN
process_start_time_seconds 1.776e+09
"""


def test_a_look_is_read_from_the_metrics_and_what_is_no_number_is_left_out() -> None:
    assert look_of(series_of(METRICS), at=5) == Look(
        at=5, requests=42, cpu_seconds=12.5, memory=None, started=1.776e9, last_request=1.777e9
    )


def test_a_time_that_is_none_is_not_shown() -> None:
    pod = PodUse(requested=FOUR_CPUS, last=look(NOW, 1, last_request=1e300))
    assert use_of("risk", "fraud", [pod]).last_request is None


def test_a_window_counts_from_minutes_ago() -> None:
    window = Window()
    for second in range(0, int(3 * SECONDS) + 1, 30):
        window.add({"a": look(second, second)})
    assert window.last["a"].at == 3 * SECONDS
    assert SECONDS <= window.last["a"].at - window.first["a"].at <= 2 * SECONDS


def test_pods_are_told_apart_by_name() -> None:
    found = by_pod({"a": look(NOW, 1)}, {"a": look(NOW - 1, 0), "gone": look(NOW, 1)}, {"a": FOUR_CPUS, "b": FOUR_CPUS})
    assert [(one.first is None, one.last is None) for one in found] == [(False, False), (True, True)]
