"""The unchanged kubectl against the sandbox."""

import json
from typing import Any

import yaml

from model_sandbox.testing import sandbox

WIDGETS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.shop.test"},
    "spec": {
        "group": "shop.test",
        "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets", "shortNames": ["wd"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.count", "statusReplicasPath": ".status.count"},
                },
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
                ],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "description": "What is wanted.",
                                "properties": {
                                    "size": {"type": "integer", "maximum": 9, "description": "How large."},
                                    "count": {"type": "integer", "default": 1},
                                },
                            },
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}


def widget(name: str, **spec: Any) -> str:
    return yaml.safe_dump({"apiVersion": "shop.test/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})


def web(replicas: int = 2) -> str:
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": "web:1", "ports": [{"containerPort": 80}]}]},
            },
        },
    }
    return yaml.safe_dump(body)


async def test_custom_resources_from_definition_to_deletion(kubectl_of: Any) -> None:
    async with sandbox(controllers=True) as server:
        kubectl = kubectl_of(server.kubeconfig)
        await kubectl("apply", "-f", "-", stdin=yaml.safe_dump(WIDGETS))
        await kubectl("wait", "--for=condition=Established", "crd/widgets.shop.test", "--timeout=10s")
        assert "created" in await kubectl("apply", "-f", "-", stdin=widget("one", size=3))
        assert "unchanged" in await kubectl("apply", "-f", "-", stdin=widget("one", size=3))
        assert "configured" in await kubectl("apply", "-f", "-", stdin=widget("one", size=4))
        told = await kubectl("apply", "-f", "-", stdin=widget("two", size=10), fails=True)
        assert "spec.size in body should be less than or equal to 9" in told
        told = await kubectl("apply", "-f", "-", stdin=widget("two", sise=1), fails=True)
        assert 'unknown field "spec.sise"' in told
        await kubectl("patch", "wd", "one", "--subresource=status", "--type=merge", "-p",
                      '{"status": {"conditions": [{"type": "Ready", "status": "True"}]}}')  # fmt: skip
        rows = (await kubectl("get", "wd")).splitlines()
        assert rows[0].split() == ["NAME", "SIZE", "READY"]
        assert rows[1].split() == ["one", "4", "True"]
        await kubectl("wait", "--for=condition=Ready", "wd/one", "--timeout=5s")
        assert "How large." in await kubectl("explain", "widget.spec.size")
        await kubectl("scale", "wd", "one", "--replicas=5")
        assert await kubectl("get", "wd", "one", "-o", "jsonpath={.spec.count}") == "5"
        await kubectl("label", "wd", "one", "tier=gold")
        await kubectl("annotate", "wd", "one", "note=hello")
        assert "wd/one" not in await kubectl("get", "wd", "-l", "tier!=gold", "-o", "name")
        assert "widgets" in await kubectl("api-resources", "--api-group=shop.test")
        await kubectl("delete", "crd", "widgets.shop.test", "--timeout=10s")
        told = await kubectl("get", "widgets", fails=True)
        assert "have a resource type" in told or "could not find the requested resource" in told


async def test_a_deployment_is_rolled_out_paused_undone_and_deleted(kubectl_of: Any) -> None:
    async with sandbox(controllers=True, pods="instant") as server:
        kubectl = kubectl_of(server.kubeconfig)
        await kubectl("apply", "-f", "-", stdin=web())
        assert "successfully rolled out" in await kubectl("rollout", "status", "deploy/web", "--timeout=15s")
        await kubectl("set", "image", "deploy/web", "main=web:2")
        await kubectl("rollout", "status", "deploy/web", "--timeout=15s")
        assert (await kubectl("rollout", "history", "deploy/web")).count("<none>") == 2
        await kubectl("rollout", "undo", "deploy/web")
        await kubectl("rollout", "status", "deploy/web", "--timeout=15s")
        image = "jsonpath={.items[*].spec.containers[0].image}"
        assert set((await kubectl("get", "pods", "-o", image)).split()) >= {"web:1"}
        await kubectl("scale", "deploy/web", "--replicas=4")
        await kubectl("wait", "deploy/web", "--for=jsonpath={.status.readyReplicas}=4", "--timeout=15s")
        described = await kubectl("describe", "deploy/web")
        assert "ScalingReplicaSet" in described
        await kubectl("delete", "deploy/web", "--cascade=foreground", "--timeout=15s")
        assert "No resources found" in await kubectl("get", "rs,pods")


async def test_server_side_apply_conflicts_as_on_a_cluster(kubectl_of: Any) -> None:
    async with sandbox(controllers=True) as server:
        kubectl = kubectl_of(server.kubeconfig)
        await kubectl("apply", "--server-side", "--field-manager=ci", "-f", "-", stdin=web(1))
        told = await kubectl("apply", "--server-side", "--field-manager=me", "-f", "-", stdin=web(3), fails=True)
        assert 'conflict with "ci": .spec.replicas' in told
        await kubectl("apply", "--server-side", "--field-manager=me", "--force-conflicts", "-f", "-", stdin=web(3))
        assert await kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "3"
        assert "replicas: 3" not in await kubectl("diff", "-f", "-", stdin=web(3))


async def test_protobuf_is_read(kubectl_of: Any) -> None:
    async with sandbox(controllers=True) as server:
        kubectl = kubectl_of(server.kubeconfig)
        await kubectl("create", "configmap", "c", "--from-literal=a=b")
        await kubectl("create", "secret", "generic", "s", "--from-literal=k=v")
        await kubectl("create", "namespace", "other")
        await kubectl("create", "deployment", "d", "--image=x", "--replicas=0")
        await kubectl("autoscale", "deployment", "d", "--max=3")
        held = json.loads(await kubectl("get", "secret", "s", "-o", "json"))
        assert held["data"] == {"k": "dg=="}
        assert await kubectl("get", "configmap", "c", "-o", "jsonpath={.data.a}") == "b"


async def test_what_a_service_account_may_do_is_what_its_roles_say(kubectl_of: Any) -> None:
    async with sandbox(controllers=True) as server:
        kubectl = kubectl_of(server.kubeconfig)
        await kubectl("create", "serviceaccount", "bot")
        await kubectl("create", "role", "r", "--verb=get,list", "--resource=configmaps")
        await kubectl("create", "rolebinding", "b", "--role=r", "--serviceaccount=default:bot")
        who = "--as=system:serviceaccount:default:bot"
        assert (await kubectl("auth", "can-i", "list", "configmaps", who)).strip() == "yes"
        assert (await kubectl("auth", "can-i", "delete", "configmaps", who, fails=True)).strip() == "no"
        token = (await kubectl("create", "token", "bot")).strip()
        assert "less than 10 minutes" in await kubectl("create", "token", "bot", "--duration=5m", fails=True)
        assert 'cannot list resource "foos"' in await kubectl(
            *("get", "--raw", f"/as/{server.token}/api/v1/foos", who), fails=True
        )
        told = await kubectl("get", "pods", who, fails=True)
        assert 'User "system:serviceaccount:default:bot" cannot list resource "pods" in API group ""' in told
        assert token.count(".") == 2


async def test_pods_that_are_refused_are_told_until_they_can_be_made(kubectl_of: Any) -> None:
    async with sandbox(controllers=True, pods="instant") as server:
        kubectl = kubectl_of(server.kubeconfig)
        await kubectl("create", "deployment", "d", "--image=x", "--replicas=0")
        await kubectl("set", "serviceaccount", "deployment", "d", "later")
        await kubectl("scale", "deployment", "d", "--replicas=1")
        await kubectl("wait", "deployment/d", "--for=condition=ReplicaFailure", "--timeout=20s")
        told = await kubectl(
            "get", "deployment", "d", "-o", 'jsonpath={.status.conditions[?(@.type=="ReplicaFailure")]}'
        )
        assert 'serviceaccount \\"later\\" not found' in told
        await kubectl("create", "serviceaccount", "later")
        await kubectl("rollout", "status", "deployment/d", "--timeout=30s")
        assert "ReplicaFailure" not in await kubectl("get", "deployment", "d", "-o", "yaml")
