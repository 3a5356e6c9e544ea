"""Which Gateways and Services a ModelDeployment may attach its route to (`trafficPolicy` of the chart). Pure.

The operator writes HTTPRoutes for people who need not have that right, and a Gateway cannot tell for whom: one that
admits routes of all namespaces would give a host name of one team to another. So a Gateway of another namespace is
closed until a rule opens it. A Gateway in the namespace of the ModelDeployment belongs to its team, and so does the
model's own Service (https://gateway-api.sigs.k8s.io/concepts/security-model/).
"""

import fnmatch
from collections.abc import Sequence

from model_operator.api.resource import ModelDeployment
from model_operator.api.routing import GATEWAY_API, ParentRef
from model_operator.api.values import Value
from model_operator.errors import NotAllowed

POLICY = "TrafficPolicyViolated"


class GatewayRule(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What some namespaces may attach to a Gateway, or to a Service.

    Attributes:
        namespace: that of the parent.
        kind: of the parent, with its API group in `group`; by default a Gateway.
        section_names: listeners of the Gateway; none means all.
        hostnames: what routes may have as host names; `*.example.com` is every name below, `*` every name and none.
        from_namespaces: of ModelDeployments, as names or as patterns such as `team-*`.
    """

    namespace: str
    name: str
    hostnames: tuple[str, ...]
    from_namespaces: tuple[str, ...]
    kind: str = "Gateway"
    group: str | None = None
    section_names: tuple[str, ...] = ()

    def opens(self, ref: ParentRef, parent: tuple[str, str], namespace: str) -> bool:
        """Whether routes of a namespace may be attached to a parent with this namespace and name."""
        group = ("" if self.kind == "Service" else GATEWAY_API) if self.group is None else self.group
        return (
            (group, self.kind, self.namespace, self.name) == (ref.group, ref.kind, *parent)
            and (not self.section_names or ref.section_name in self.section_names)
            and any(fnmatch.fnmatchcase(namespace, pattern) for pattern in self.from_namespaces)
        )


def check_traffic(resource: ModelDeployment, rules: Sequence[GatewayRule]) -> None:
    """Check the parents and host names of a route.

    Raises:
        NotAllowed: no rule opens a parent to the namespace; the message has the rule that is missing.
    """
    routing = resource.spec.routing
    for index, ref in enumerate(routing.parent_refs if routing else ()):
        parent = (ref.namespace or resource.key.namespace, ref.name or resource.name)
        if _is_own(resource, ref, parent):
            continue
        open_rules = [rule for rule in rules if rule.opens(ref, parent, resource.key.namespace)]
        patterns = [pattern for rule in open_rules for pattern in rule.hostnames]
        refused = [name for name in (routing.hostnames if routing else ()) or ("*",) if not _is_covered(name, patterns)]
        if refused or not open_rules:
            raise NotAllowed(_refusal(resource, index, ref, parent, refused, patterns), reason=POLICY)


def _is_own(resource: ModelDeployment, ref: ParentRef, parent: tuple[str, str]) -> bool:
    """Whether a parent is the team's own: a Gateway or ListenerSet of its namespace, or the front Service of the model.

    Other Services of the namespace are not: their requests are meant for others' pods.
    """
    namespace, name = parent
    if namespace != resource.key.namespace:
        return False
    is_gateway = ref.group == GATEWAY_API and ref.kind in ("Gateway", "ListenerSet")
    return is_gateway or (ref.is_service and name == resource.name)


def _is_covered(hostname: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns covers all that a host name of a route stands for."""
    return any(
        pattern in ("*", hostname) or (pattern.startswith("*.") and hostname != "*" and hostname.endswith(pattern[1:]))
        for pattern in patterns
    )


def _refusal(
    resource: ModelDeployment,
    index: int,
    ref: ParentRef,
    parent: tuple[str, str],
    refused: Sequence[str],
    patterns: Sequence[str],
) -> str:
    namespace, name = parent
    where = f"the listener {ref.section_name}" if ref.section_name else "all listeners"
    what = f"{ref.kind} {namespace}/{name}" + (f" ({where})" if not ref.is_service else "")
    names = ", ".join("any host name" if one == "*" else one for one in refused)
    allowed = f"; host names that are: {', '.join(patterns)}" if patterns else ""
    kind = "" if ref.kind == "Gateway" else f"kind: {ref.kind}, "
    section = f"sectionNames: [{ref.section_name}], " if ref.section_name else ""
    entry = (
        f"{{{kind}namespace: {namespace}, name: {name}, {section}hostnames: [{', '.join(map(_yaml, refused))}],"
        f" fromNamespaces: [{resource.key.namespace}]}}"
    )
    return (
        f"trafficRouting.gatewayAPI.parentRefs[{index}]: {what} is not open to namespace {resource.key.namespace}"
        f" for {names}{allowed}. The administrator of the cluster opens it by an entry in trafficPolicy.gateways of"
        f" the chart, such as {entry}"
    )


def _yaml(hostname: str) -> str:
    return f'"{hostname}"' if "*" in hostname else hostname
