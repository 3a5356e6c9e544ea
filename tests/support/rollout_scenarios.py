"""All scenarios of a rollout, which a `World` plays with or without sudden deaths of the operator."""

from cluster_scenarios import SURROUNDINGS
from request_scenarios import REQUESTS
from rollout_actions import Scenario
from version_scenarios import VERSIONS

SCENARIOS: dict[str, Scenario] = {**VERSIONS, **REQUESTS, **SURROUNDINGS}
CASES = [(name, kind) for name, scenario in SCENARIOS.items() for kind in scenario.strategies]
