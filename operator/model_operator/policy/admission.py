"""What the administrator of the cluster lets a ModelDeployment ask for, beyond what its schema allows. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from model_operator.api.resource import ModelDeployment
from model_operator.manifests.pod_policy import PodPolicy, check_pods
from model_operator.manifests.pods import PodSettings
from model_operator.policy.monitoring_policy import check_monitoring
from model_operator.policy.traffic_policy import GatewayRule, check_traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The policies of the cluster, which settings of the operator give."""

    settings: PodSettings
    pods: PodPolicy = field(default_factory=PodPolicy)
    gateways: Sequence[GatewayRule] = ()
    monitored_namespaces: Sequence[str] = ("*",)

    def check(self, resource: ModelDeployment) -> None:
        """Check a ModelDeployment.

        Raises:
            NotAllowed: a policy refuses it; the message names the field, the rule, and where that is set.
        """
        check_pods(resource, self.settings, self.pods)
        check_traffic(resource, self.gateways)
        check_monitoring(resource, self.monitored_namespaces)
