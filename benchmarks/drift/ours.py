"""The model server's drift, given each chunk as a server gets its requests: as drifted, and by its evidence alone."""

from __future__ import annotations

from collections.abc import Callable

from streams import CATEGORY, NUMBERS, Columns

from model_server.domain.features import Feature, Metadata, ReferenceFeature
from model_server.domain.model import Identity
from model_server.monitoring.drift import Drift, find_reference
from model_server.settings import Settings
from model_server.telemetry import Telemetry
from modeldeploy.package.describing import describe

#: A finding at 5 %.
EVIDENCE = 20.0


def monitor_of(reference: Columns, _: int) -> Callable[[Columns], dict[str, bool]]:
    """Give what says after each chunk, by column of the table, whether anything has drifted. It needs no chunks."""
    names = [*NUMBERS, CATEGORY]
    # As `modeldeploy package --sample` writes it.
    profile = describe(names, {name: list(map(str, reference[name])) for name in names}, ranges=False)
    features = tuple(Feature(name=name, dtype="string" if name == CATEGORY else "float64") for name in names)
    metadata = Metadata(
        input_features=features,
        reference_profile={name: ReferenceFeature(**one) for name, one in profile["reference_profile"].items()},
    )
    telemetry = Telemetry()
    telemetry.loaded(Identity(model="m", version="1", revision="r"))
    settings = Settings(storage_uri="file:///m")
    drift = Drift(features, find_reference("package", metadata), settings.drift_threshold, telemetry)

    def look(seen: Columns) -> dict[str, bool]:
        drift.update([seen])
        evidence = next(family for family in drift.collect() if family.name == "modeldeploy_drift_evidence")
        return {
            "modeldeploy, drifted": bool(drift.drifted),
            "modeldeploy, evidence": any(sample.value >= EVIDENCE for sample in evidence.samples),
        }

    return look
