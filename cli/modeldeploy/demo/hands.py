"""The demo's two ways to do what a user does: kubectl, and the same API calls where kubectl is missing."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import yaml

from modeldeploy.demo.narrator import DemoFailed, Narrator
from modeldeploy.kube import CRDS, EVENTS, MODELDEPLOYMENTS, Kube, Resource

_RESOURCES: dict[str, Resource] = {"ModelDeployment": MODELDEPLOYMENTS, "CustomResourceDefinition": CRDS}


class Hands(Protocol):
    """What a user does to a cluster. Each shows its command and what came back."""

    def apply(self, file: Path) -> None:
        """Apply a manifest."""

    def watching(self, name: str) -> Any:
        """Context manager: print the changes of one ModelDeployment as they happen."""

    def wide(self) -> str:
        """Show the ModelDeployments with all columns."""

    def describe(self, name: str) -> str:
        """Show one ModelDeployment with its events."""

    def delete(self, name: str) -> None:
        """Delete one ModelDeployment and wait until it is gone."""


def hands(kubeconfig: Path, kube: Kube, narrator: Narrator) -> Hands:
    """kubectl's where it is installed, else those of the Python client."""
    if shutil.which("kubectl"):
        return Kubectl(kubeconfig, narrator)
    narrator.say("kubectl is not installed here: the same steps go through the Python client.")
    return Client(kube, narrator)


class Kubectl:
    """Runs kubectl with the sandbox's kubeconfig."""

    def __init__(self, kubeconfig: Path, narrator: Narrator) -> None:
        self._narrator = narrator
        self._prefix = ["kubectl", "--kubeconfig", str(kubeconfig)]

    def apply(self, file: Path) -> None:
        """`kubectl apply -f FILE`."""
        self._run("apply", "-f", str(file))

    @contextmanager
    def watching(self, name: str) -> Iterator[None]:
        """`kubectl get mdep NAME -w`, ended on exit as Ctrl-C would."""
        self._narrator.command(["kubectl", "get", "mdep", name, "-w"])
        command = [*self._prefix, "get", "mdep", name, "-w"]
        watch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        reader = threading.Thread(target=self._copy, args=(watch,))
        reader.start()
        try:
            yield
        finally:
            watch.terminate()
            watch.wait()
            reader.join()

    def wide(self) -> str:
        """`kubectl get mdep -o wide`."""
        return self._run("get", "mdep", "-o", "wide")

    def describe(self, name: str) -> str:
        """`kubectl describe mdep NAME`."""
        return self._run("describe", "mdep", name, show=_the_end_of_it)

    def delete(self, name: str) -> None:
        """`kubectl delete mdep NAME`."""
        self._run("delete", "mdep", name)

    def _run(self, *words: str, show: Any = str) -> str:
        self._narrator.command(["kubectl", *words])
        done = subprocess.run([*self._prefix, *words], capture_output=True, text=True, timeout=120)
        self._narrator.output(show(done.stdout) + done.stderr)
        if done.returncode:
            raise DemoFailed(f"kubectl {' '.join(words)} ended with {done.returncode}")
        return done.stdout

    def _copy(self, watch: "subprocess.Popen[str]") -> None:
        """Print what kubectl prints, but a line once that differs from the last in its age alone."""
        shown: list[str] = []
        for line in watch.stdout or ():
            words = line.split()
            if words[:-1] != shown:
                self._narrator.output(line)
            shown = words[:-1]


class Client:
    """The same through `modeldeploy.kube`."""

    def __init__(self, kube: Kube, narrator: Narrator) -> None:
        self._kube = kube
        self._narrator = narrator

    def apply(self, file: Path) -> None:
        """Server-side apply of each document of the file."""
        self._narrator.command(["kube.apply", str(file)])
        for manifest in yaml.safe_load_all(file.read_text()):
            self._kube.apply(_RESOURCES[manifest["kind"]], manifest)
            self._narrator.output(f"{manifest['kind']} {manifest['metadata']['name']} applied")

    @contextmanager
    def watching(self, name: str) -> Iterator[None]:
        """Print a row of the server's table whenever it differs from the last one."""
        self._narrator.command(["kube.table", "modeldeployments", name])
        over = threading.Event()
        reader = threading.Thread(target=self._follow, args=(name, over))
        reader.start()
        try:
            yield
        finally:
            over.set()
            reader.join()

    def wide(self) -> str:
        """The server's table."""
        self._narrator.command(["kube.table", "modeldeployments"])
        text = _as_text(self._kube.table(MODELDEPLOYMENTS), wide=True)
        self._narrator.output(text)
        return text

    def describe(self, name: str) -> str:
        """Status and events as YAML."""
        self._narrator.command(["kube.get", "modeldeployments", name])
        status = self._kube.get(MODELDEPLOYMENTS, name).get("status", {})
        found = self._kube.list(EVENTS, fields=f"involvedObject.name={name}")
        events = [f"{one.get('type')} {one.get('reason')}: {one.get('message')}" for one in found]
        text = yaml.safe_dump({"status": status, "events": events}, sort_keys=False, width=100)
        self._narrator.output(_the_end_of_it(text))
        return text

    def delete(self, name: str) -> None:
        """Delete it."""
        self._narrator.command(["kube.delete", "modeldeployments", name])
        self._kube.delete(MODELDEPLOYMENTS, name)

    def _follow(self, name: str, over: threading.Event) -> None:
        """Print the row when it differs from the last one in more than its age; the header once."""
        shown: list[list[str]] = []
        while not over.wait(0.1):
            header, *rows = _as_text(self._kube.table(MODELDEPLOYMENTS), wide=False, only=name).splitlines()
            words = [row.split()[:-1] for row in rows]
            if rows and words != shown:
                self._narrator.output("\n".join(rows if shown else [header, *rows]))
                shown = words


def _as_text(table: dict[str, Any], *, wide: bool, only: str = "") -> str:
    """Columns of a Kubernetes Table, padded."""
    chosen = [i for i, one in enumerate(table["columnDefinitions"]) if wide or not one.get("priority")]
    rows = [row["cells"] for row in table["rows"] if not only or row["cells"][0] == only]
    lines = [[str(table["columnDefinitions"][i]["name"]).upper() for i in chosen]]
    lines += [["" if row[i] is None else str(row[i]) for i in chosen] for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(chosen))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _the_end_of_it(text: str, lines: int = 24) -> str:
    """The last lines, where conditions and events stand; what was left out is said."""
    all_lines = text.splitlines()
    left_out = len(all_lines) - lines
    return text if left_out <= 0 else "\n".join([f"... ({left_out} lines above)", *all_lines[-lines:], ""])
