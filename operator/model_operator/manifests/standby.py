"""EndpointSlices that lead the requests of a model without a pod to the activators.

They belong to the model's own Services, next to the slices of Kubernetes' controller, which leaves others alone
(https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#management).
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from model_operator.api.activation import GRPC_BELOW
from model_operator.api.names import SLICE_MANAGED_BY, SLICE_MANAGER
from model_operator.api.resource import ModelDeployment
from model_operator.manifests.metadata import owned_object

KIND = "EndpointSlice"
_CONDITIONS = {"ready": True, "serving": True, "terminating": False}


def standby_name(service: str) -> str:
    """Return the name of the slice of a Service."""
    return f"{service}-activator"


def standby_slice(
    owner: ModelDeployment, service: str, port: int, addresses: Sequence[str], schemes: Set[str]
) -> dict[str, Any]:
    """Return the slice that leads the ports of a Service to those of the activators.

    The port for HTTP takes TLS too; `schemes` names the ports that the Service has for it.

    A slice has addresses of one family; those of the other one are left out.
    """
    ports = dict.fromkeys(sorted(schemes), port)
    if owner.spec.server.grpc_port:
        ports["grpc"] = port - GRPC_BELOW
    is_ipv6 = bool(addresses) and ":" in addresses[0]
    content: Mapping[str, Any] = {
        "addressType": "IPv6" if is_ipv6 else "IPv4",
        "endpoints": [
            {"addresses": [address], "conditions": _CONDITIONS}
            for address in sorted(addresses)
            if (":" in address) == is_ipv6
        ],
        "ports": [{"name": name, "port": number, "protocol": "TCP"} for name, number in ports.items()],
    }
    labels = {"kubernetes.io/service-name": service, SLICE_MANAGED_BY: SLICE_MANAGER}
    return owned_object(owner, "discovery.k8s.io/v1", KIND, standby_name(service), content, labels=labels)


def standby_slices(
    owner: ModelDeployment,
    services: Sequence[str],
    port: int,
    addresses: Sequence[str] | None,
    schemes: Set[str],
    live: Mapping[tuple[str, str], Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    """Yield the slice of each Service; while the addresses are not known (None), the live ones stay as they are."""
    for service in services:
        existing = live.get((KIND, standby_name(service)))
        if addresses is not None:
            yield standby_slice(owner, service, port, addresses, schemes)
        elif existing is not None:
            yield dict(existing)
