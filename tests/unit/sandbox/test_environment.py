"""What a container's process gets."""

from pathlib import Path
from typing import Any

import pytest

from model_sandbox.node.environment import (
    ConfigError,
    Place,
    Sources,
    UnknownImage,
    command_line,
    environment,
    expand,
    find_image,
)

PLACE = Place(
    "127.64.1.2", {"/data": Path("/state/v"), "/data/in": Path("/state/w"), "/dev/termination-log": Path("/t")}
)
POD = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "b"}},
    "spec": {"nodeName": "node", "containers": [{"name": "c", "resources": {"limits": {"memory": "2Gi"}}}]},
    "status": {"podIP": "127.64.1.2"},
}
SOURCES = Sources(POD, {("configmap", "cm"): {"k": b"v"}, ("secret", "sec"): {"pw": b"x"}}, "127.0.0.1", {"cpu": "4"})


@pytest.mark.parametrize(
    ("text", "result"),
    [
        pytest.param("/data", "/state/v", id="a mount path"),
        pytest.param("file:///data/m.bin", "file:///state/v/m.bin", id="within a URL"),
        pytest.param("/data/in/x", "/state/w/x", id="the longest mount path counts"),
        pytest.param("/database", "/database", id="a longer name is another path"),
        pytest.param("/my/data", "/my/data", id="the end of another path is left alone"),
        pytest.param("a=/data:/data/in", "a=/state/v:/state/w", id="several in one text"),
        pytest.param("0.0.0.0:80", "127.64.1.2:80", id="the bind address"),
        pytest.param("10.0.0.0", "10.0.0.0", id="another address"),
    ],
)
def test_rewriting(text: str, result: str) -> None:
    assert PLACE.rewrite(text) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [("$(A)/x", "1/x"), ("$(B)", "$(B)"), ("$$(A)", "$(A)"), ("$A", "$A"), ("$(A)$(A)", "11")],
)
def test_expansion(text: str, result: str) -> None:
    assert expand(text, {"A": "1"}) == result


def env(*entries: Any, **more: Any) -> dict[str, str]:
    return environment({"name": "c", "env": list(entries), **more}, SOURCES, PLACE)


@pytest.mark.parametrize(
    ("origin", "value"),
    [
        ({"fieldRef": {"fieldPath": "metadata.name"}}, "p"),
        ({"fieldRef": {"fieldPath": "status.podIP"}}, "127.64.1.2"),
        ({"fieldRef": {"fieldPath": "metadata.labels['a']"}}, "b"),
        ({"secretKeyRef": {"name": "sec", "key": "pw"}}, "x"),
        ({"configMapKeyRef": {"name": "cm", "key": "k"}}, "v"),
        ({"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}, "2048"),
        ({"resourceFieldRef": {"resource": "limits.cpu"}}, "4"),
    ],
)
def test_values_come_from_elsewhere(origin: Any, value: str) -> None:
    assert env({"name": "X", "valueFrom": origin}) == {"X": value}


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ({"secretKeyRef": {"name": "none", "key": "k"}}, 'secret "none" not found'),
        ({"configMapKeyRef": {"name": "cm", "key": "q"}}, "couldn't find key q in ConfigMap n/cm"),
        ({"fieldRef": {"fieldPath": "spec.magic"}}, "known: metadata.name"),
    ],
)
def test_what_is_missing_is_named(origin: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        env({"name": "X", "valueFrom": origin})


def test_what_is_optional_may_be_missing() -> None:
    assert env({"name": "X", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k", "optional": True}}}) == {}


def test_env_from_takes_all_keys_and_env_wins() -> None:
    found = env({"name": "p_k", "value": "own"}, envFrom=[{"prefix": "p_", "configMapRef": {"name": "cm"}}])
    assert found == {"p_k": "own"}


IMAGES = {"modeldeploy/server": ("run", "server"), "box": ("sh",)}


@pytest.mark.parametrize(
    ("container", "command"),
    [
        pytest.param({"image": "reg.test:5000/modeldeploy/server:1.2"}, ["run", "server"], id="by the end of its name"),
        pytest.param({"image": "box@sha256:" + "0" * 64}, ["sh"], id="a digest"),
        pytest.param({"image": "box", "args": ["-c", "$(A)"]}, ["sh", "-c", "1"], id="args extend the entrypoint"),
        pytest.param({"image": "box", "command": ["ls", "/data"]}, ["ls", "/state/v"], id="command replaces it"),
    ],
)
def test_commands(container: Any, command: list[str]) -> None:
    assert (
        command_line({"name": "c", **container}, find_image(container["image"], IMAGES)[0], {"A": "1"}, PLACE)
        == command
    )


@pytest.mark.parametrize("image", ["nginx", "notbox", "box/extra", ""])
def test_an_unknown_image_lists_the_known_ones(image: str) -> None:
    with pytest.raises(UnknownImage, match="Known images: box, modeldeploy/server"):
        find_image(image, IMAGES)
