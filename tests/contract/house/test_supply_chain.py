"""What is installed, built and published is what was examined: hashes, digests, and workflows that hold to them."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from importlib.metadata import requires as requirements_of
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
SHA256 = "0123456789abcdef" * 4


def ci(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable] if script in ("pins", "chart-images") else ["sh"]
    return subprocess.run(
        [*command, str(ROOT / ".ci" / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )


def pins(*extras: str) -> dict[str, str]:
    """Name and version of what extras need, by `.ci/pins`."""
    done = ci("pins", ",".join(extras))
    assert done.returncode == 0, done.stderr
    lines = [line.rstrip(" \\") for line in done.stdout.splitlines() if line and line[0] not in " #"]
    found = [one for one in map(Requirement, lines) if one.marker is None or one.marker.evaluate()]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in found}


def test_every_pin_has_the_hashes_of_its_files_and_no_address() -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9])", CONSTRAINTS, flags=re.MULTILINE)[1:]
    assert len(blocks) > 100
    assert [block for block in blocks if not re.search(r"--hash=sha256:[0-9a-f]{64}", block)] == []
    assert "://" not in CONSTRAINTS


@pytest.mark.parametrize("extra", ["operator", "server,server-sklearn", "signing", "sandbox", "cli", "dev,build"])
def test_what_an_extra_needs_is_pinned_as_it_is_installed(extra: str) -> None:
    """What is installed without its dependencies must be whole."""
    found = pins(*extra.split(","))
    waiting = [Requirement(one) for name in extra.split(",") for one in EXTRAS[name]]
    needed: dict[str, str] = {}
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        if one.marker and not one.marker.evaluate({"extra": ""}):
            continue
        if name == "modeldeploy":
            waiting += [Requirement(inner) for wanted in one.extras for inner in EXTRAS[wanted]]
        elif name not in needed:
            try:
                needed[name] = distribution(name).version
            except PackageNotFoundError:
                continue  # of another platform, or not part of the virtual environment of the tests
            waiting += [
                inner
                for inner in map(Requirement, requirements_of(name) or ())
                if inner.marker is None or any(inner.marker.evaluate({"extra": wanted}) for wanted in ("", *one.extras))
            ]
    assert len(needed) > 3
    assert {name: found.get(name) for name in needed} == needed


def test_an_unknown_extra_is_refused_with_the_known_ones() -> None:
    done = ci("pins", "servr")
    assert done.returncode == 1
    assert "no extra 'servr'; known are operator, server" in done.stderr


def test_the_images_install_by_hash_alone() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    installs = [one.strip() for one in re.findall(r"pip install ([^\\&\n]*)", dockerfile)]
    assert len(installs) == 5
    # The other two are this project itself, built in the stage before.
    by_hash = [one for one in installs if "--require-hashes --no-deps -r" in one]
    assert len(by_hash) == 3
    assert [one for one in installs if one not in by_hash] == ["--no-deps dist/*.whl"] * 2


def test_every_stage_is_built_from_one_base_by_digest() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", dockerfile, re.MULTILINE)
    assert len(stages) == len(re.findall("^FROM ", dockerfile, re.MULTILINE))
    names = {name for _, name in stages}
    outside = [image for image, _ in stages if image not in names]
    assert len(outside) == 1
    assert re.fullmatch(r"python:3\.12-slim@sha256:[0-9a-f]{64}", outside[0])


@pytest.mark.parametrize("image", ["operator", "server"])
def test_the_list_of_contents_is_of_the_extras_that_an_image_has(image: str) -> None:
    done = ci("image-extras", image)
    assert set(done.stdout.strip().split(",")) <= set(EXTRAS)
    assert pins(*done.stdout.strip().split(","))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_uses_commits_names_their_version_and_grants_rights_by_job(workflow: Path) -> None:
    text = workflow.read_text()
    assert "uses:" in text
    loose = [line.strip() for line in text.splitlines() if "uses:" in line and not PINNED.search(line)]
    assert loose == []
    assert yaml.safe_load(text)["permissions"] in ({}, {"contents": "read"})


PINNED = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")


def test_a_release_writes_the_digests_of_its_images_into_the_chart(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    before = (ROOT / "helm" / "modeldeploy" / "values.yaml").read_text()
    values.write_text(before)
    done = ci("chart-images", values, "mirror.example.com/x", f"sha256:{SHA256}", f"sha256:{SHA256[::-1]}")
    assert done.returncode == 0, done.stderr
    image = yaml.safe_load(values.read_text())["image"]
    assert image["registry"] == "mirror.example.com/x"
    assert image["operator"] == {"repository": "operator", "tag": "", "digest": f"sha256:{SHA256}"}
    assert image["server"] == {"repository": "server", "tag": "", "digest": f"sha256:{SHA256[::-1]}"}
    changed = [
        pair for pair in zip(before.splitlines(), values.read_text().splitlines(), strict=True) if len(set(pair)) > 1
    ]
    assert len(changed) == 5


def test_a_digest_that_is_none_is_refused(tmp_path: Path) -> None:
    done = ci("chart-images", tmp_path / "values.yaml", "r", "", "")
    assert done.returncode == 1
    assert "is no digest of the image operator" in done.stderr
