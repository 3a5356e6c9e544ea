"""A running pool and its list, and packages that do to their process what their row says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

#: Answers with its own number; the row asks for more: to end the process, or to sleep.
MODEL = """
import ctypes, os, time
import helper

def load_model(path):
    if {dies}:
        os._exit(3)
    return b"x" * ({megabytes} * 2**20)

def predict(model, inputs):
    what = float(inputs[0, 0])
    if what == -1:
        ctypes.string_at(0)
    if what > 0:
        time.sleep(what)
    return [helper.NUMBER] * len(inputs)
"""


class PoolOf:
    """A running pool, and its list."""

    def __init__(self, server: Any, listing: Path) -> None:
        self.server = server
        self.listing = listing

    def ask(self, name: str, value: float = 0) -> httpx.Response:
        response: httpx.Response = self.server.client.post(f"/v1/models/{name}:predict", json={"instances": [[value]]})
        return response

    def answer(self, name: str, value: float = 0) -> int:
        response = self.ask(name, value)
        assert response.status_code == 200, f"{response.text}\n{self.server.describe()}"
        return int(response.json()["predictions"][0])

    def index(self) -> dict[str, Any]:
        return {one["name"]: one for one in self.server.client.post("/v2/repository/index").json()}

    def loaded(self) -> set[str]:
        return {name for name, one in self.index().items() if one["state"] == "READY"}

    def metric(self, name: str) -> float:
        lines = self.server.client.get("/metrics").text.splitlines()
        values = [float(line.rsplit(" ", 1)[1]) for line in lines if line.split(" ")[0].split("{")[0] == name]
        return sum(values)

    def list(self, *models: dict[str, Any]) -> None:
        new = self.listing.with_suffix(".new")
        new.write_text(json.dumps({"models": models}))
        new.replace(self.listing)


def package(folder: Path, number: int, *, megabytes: int = 0, dies: bool = False) -> dict[str, Any]:
    """An entry of a list; each package has a module of the same name."""
    own = folder / f"package-{number}"
    own.mkdir(exist_ok=True)
    (own / "model.py").write_text(MODEL.format(megabytes=megabytes, dies=dies))
    (own / "helper.py").write_text(f"NUMBER = {number}\n")
    (own / "model.yaml").write_text("input_features: [{name: what}]\noutput_features: [{name: number, dtype: int64}]\n")
    return {"name": f"m{number}", "storageUri": f"file://{own}", "trusted": True}
