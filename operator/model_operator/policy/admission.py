"""What the administrator of the cluster lets a resource ask for, beyond what its schema allows. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_operator.api.pool import ModelPool
from model_operator.api.resource import ModelDeployment
from model_operator.manifests.pod_policy import PodPolicy, check_pods, check_pool_template
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
        wanted = {"serviceMonitor": resource.spec.service_monitor, "alerts": resource.spec.alerts}
        check_monitoring(resource.key.namespace, wanted, self.monitored_namespaces)

    def check_pool(self, pool: ModelPool, template: Mapping[str, Any]) -> None:
        """Check a ModelPool, whose pods are made of `template`.

        Raises:
            NotAllowed: as `check`.
        """
        namespace, overlay = pool.key.namespace, pool.spec.server.pod_template
        check_pool_template(namespace, template, overlay, self.settings, self.pods)
        wanted = {"serviceMonitor": pool.spec.monitoring.service_monitor}
        check_monitoring(namespace, wanted, self.monitored_namespaces)
