"""Replays recorded requests against an API server and compares the answers.

A recording is a list of steps: a request with its response, a watch with its events. Values that differ from
run to run stand as placeholders (`<uid:1>`, `<rv:2>`); one is bound where it first appears and must be
the same afterwards, and `<rv:N>` must grow with N. Messages are not compared, reasons and fields are.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
from contextlib import suppress
from typing import Any

import aiohttp
from waiting import eventually
from yarl import URL

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
SHAPES = {
    "uid": UUID,
    "rv": r"\d+",
    "lrv": r"\d+",
    "rand": r"[a-z0-9]+",
    "hash": r"[a-z0-9]+",
    "ip": r"[0-9a-f.:]+",
    "port": r"\d+",
    "num": r"-?\d+",
    "ns": r"[a-z0-9-]+",
    "continue": r"\S+",
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "microtime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z",
    "age": r"(?:<unknown>|<invalid>|(?:\d+[smhdy])+(?: \(x\d+ over (?:\d+[smhdy])+\))?)",
    "any": r"(?s:.*)",
}
PLACEHOLDER = re.compile(r"<(" + "|".join(SHAPES) + r")(?::([A-Za-z0-9]+))?>")
CONTROLLER = "kube-controller-manager"
UNORDERED = ("managedFields", "conditions", "finalizers", "causes")
PUBLISHED = ("kube-root-ca.crt",)


class Bindings(dict[str, str]):
    """What the placeholders stand for in this run."""

    def fill(self, value: Any) -> Any:
        """A request with its placeholders filled in."""
        if isinstance(value, str):
            whole = PLACEHOLDER.fullmatch(value)
            if whole and whole[1] == "port":
                return int(self[value])
            return PLACEHOLDER.sub(lambda match: self[match[0]], value)
        if isinstance(value, dict):
            return {self.fill(key): self.fill(item) for key, item in value.items()}
        return [self.fill(item) for item in value] if isinstance(value, list) else value

    def known(self, text: str) -> str:
        """A text with the placeholders filled in that are bound."""
        return PLACEHOLDER.sub(lambda match: self.get(match[0], match[0]), text)

    def match(self, expected: str, actual: Any) -> bool:
        """Whether a value fits, binding what it names for the first time."""
        if expected == "<any>":
            return True
        if isinstance(actual, bool) or not isinstance(actual, str | int):
            return False
        pattern, names, at = "", [], 0
        for one in PLACEHOLDER.finditer(expected):
            pattern += re.escape(expected[at : one.start()])
            at = one.end()
            if one[0] in self:
                pattern += re.escape(self[one[0]])
            elif one[2] or one[1] == "ns":
                pattern += f"({SHAPES[one[1]]})"
                names.append(one[0])
            else:
                pattern += f"(?:{SHAPES[one[1]]})"
        found = re.fullmatch(pattern + re.escape(expected[at:]), str(actual))
        if found is None:
            return False
        fresh = dict(zip(names, found.groups(), strict=True))
        if not all(self._in_order(name, value) for name, value in fresh.items()):
            return False
        self.update(fresh)
        return True

    def _in_order(self, name: str, value: str) -> bool:
        kind, _, number = name.strip("<>").partition(":")
        others = {key: held for key, held in self.items() if key.startswith(f"<{kind}:") and key != name}
        if kind == "uid":
            return value not in others.values()
        if kind == "rv":
            return all((int(key[4:-1]) < int(number)) == (int(held) < int(value)) for key, held in others.items())
        return True


class Differences(list[str]):
    """What differs between an expected and an actual answer."""

    def __init__(self, bindings: Bindings, step: dict[str, Any], *, managed: bool) -> None:
        super().__init__()
        self.bindings = bindings
        self._subset = step.get("match") == "subset"
        self._unordered = bool(step.get("unordered"))
        self._managed = managed

    def compare(self, expected: Any, actual: Any, path: str = "", key: str = "") -> None:
        """Collect what differs."""
        if isinstance(expected, dict) and isinstance(actual, dict):
            self._objects(expected, actual, path)
        elif isinstance(expected, list) and isinstance(actual, list):
            self._lists(expected, actual, path, key)
        elif isinstance(expected, str):
            if not self.bindings.match(expected, actual):
                self.append(f"{path}: expected {self.bindings.known(expected)}, got {actual!r}")
        elif expected != actual or isinstance(expected, bool) is not isinstance(actual, bool):
            self.append(f"{path}: expected {expected!r}, got {actual!r}")

    def _objects(self, expected: dict[str, Any], actual: dict[str, Any], path: str) -> None:
        for name, value in expected.items():
            if name in ("message", "description") and isinstance(value, str):
                with suppress(KeyError):
                    self.bindings.match(value, actual.get(name))
                continue
            found = actual.get(self.bindings.known(name))
            if found is None and value is not None:
                self.append(f"{path}.{name}: missing")
            elif value is not None:
                self.compare(value, found, f"{path}.{name}", name)
        known = {self.bindings.known(name) for name in expected}
        for name, value in actual.items():
            hidden = self._subset or value is None or (name == "managedFields" and not self._managed)
            if name not in known and not hidden:
                self.append(f"{path}.{name}: unexpected {value!r}")

    def _lists(self, expected: list[Any], actual: list[Any], path: str, key: str) -> None:
        if key == "managedFields":
            actual = [entry for entry in actual if entry.get("manager") != CONTROLLER]
        if not self._subset and len(expected) != len(actual):
            self.append(f"{path}: expected {len(expected)} items, got {len(actual)}")
            return
        if not (self._subset or self._unordered or key in UNORDERED):
            for index, (one, other) in enumerate(zip(expected, actual, strict=True)):
                self.compare(one, other, f"{path}[{index}]")
            return
        left = list(actual)
        for one in sorted(expected, key=lambda item: bool(PLACEHOLDER.search(self.bindings.known(json.dumps(item))))):
            best = min((self._trial(one, other) for other in left), key=lambda trial: len(trial[0]), default=None)
            if best is None:
                self.append(f"{path}: no item like {one!r}")
                return
            left.remove(best[2])
            self.extend(f"{path}: {text}" for text in best[0])
            self.bindings.update(best[1])

    def _trial(self, one: Any, other: Any) -> tuple[list[str], Bindings, Any]:
        trial = Differences(Bindings(self.bindings), {}, managed=self._managed)
        trial._subset, trial._unordered = self._subset, self._unordered
        trial.compare(one, other)
        return list(trial), trial.bindings, other


def picked(body: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """Only the named parts of a body."""
    result: dict[str, Any] = {}
    for path in paths:
        source: Any = body
        target = result
        *way, last = path.split(".")
        for name in way:
            source = source.get(name) if isinstance(source, dict) else None
            if not isinstance(source, dict):
                break
            target = target.setdefault(name, {})
        if isinstance(source, dict) and last in source:
            target[last] = source[last]
    return result


class Watch:
    """An open watch, read in the background."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        rest = b""
        with suppress(aiohttp.ClientError):
            async for chunk in self._response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    self._queue.put_nowait(json.loads(line))
        self._queue.put_nowait(None)

    async def next(self, seconds: float) -> dict[str, Any] | None:
        """The next event, None at the end. Raises TimeoutError."""
        return await asyncio.wait_for(self._queue.get(), seconds)

    async def close(self) -> None:
        """Stop watching."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._response.close()


def is_plain_bookmark(event: dict[str, Any]) -> bool:
    """A bookmark that only tells a version: servers send them when they like."""
    annotations = event["object"].get("metadata", {}).get("annotations") or {}
    return event["type"] == "BOOKMARK" and "k8s.io/initial-events-end" not in annotations


class Replayer:
    """Plays recordings against one server."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session = session
        self._url = url
        self._token = token

    async def play(self, recording: dict[str, Any]) -> list[str]:
        """The differences, step by step; empty when all is as recorded."""
        bindings = Bindings()
        if recording.get("namespace"):
            bindings["<ns>"] = await self._namespace()
        watches: dict[str, Watch] = {}
        try:
            for number, step in enumerate(recording["steps"], start=1):
                try:
                    found = await self._step(recording, step, bindings, watches)
                except KeyError as error:
                    found = [f"{error} was not bound by an earlier step"]
                if found:
                    return [f"step {number} ({step.get('note', '')}): {text}" for text in found]
        finally:
            for watch in watches.values():
                await watch.close()
        return []

    async def _namespace(self) -> str:
        name = f"wire-{secrets.token_hex(4)}"
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await self._send({"method": "POST", "path": "/api/v1/namespaces", "body": body})
        account = {"method": "GET", "path": f"/api/v1/namespaces/{name}/serviceaccounts/default"}

        async def is_there() -> bool:
            return (await self._send(account))["status"] == 200

        await eventually(is_there, f"the ServiceAccount default of {name} is there")
        return name

    async def _open(self, request: dict[str, Any]) -> aiohttp.ClientResponse:
        headers = {"User-Agent": "wire/1.0", "Accept": "application/json", "Authorization": f"Bearer {self._token}"}
        data = None
        if "raw64" in request:
            data = base64.b64decode(request["raw64"])
        elif "raw" in request:
            data = request["raw"].encode()
        elif request.get("body") is not None:
            data = json.dumps(request["body"]).encode()
            headers["Content-Type"] = "application/json"
        headers.update(request.get("headers") or {})
        return await self._session.request(
            request["method"],
            URL(self._url + request["path"], encoded=True),
            data=data,
            headers=headers,
            skip_auto_headers=("Content-Type",),
        )

    async def _send(self, request: dict[str, Any]) -> dict[str, Any]:
        response = await self._open(request)
        return await self._unpacked(response)

    async def _unpacked(self, response: aiohttp.ClientResponse) -> dict[str, Any]:
        text = await response.text()
        answer: dict[str, Any] = {"status": response.status, "headers": response.headers, "text": text}
        with suppress(ValueError):
            answer["body"] = json.loads(text)
        return answer

    async def _step(
        self, recording: dict[str, Any], step: dict[str, Any], bindings: Bindings, watches: dict[str, Watch]
    ) -> list[str]:
        if "sleep" in step:
            await asyncio.sleep(step["sleep"])
            return []
        if "stop" in step:
            await watches.pop(step["stop"]).close()
            return []
        if "events" in step:
            return await self._events(recording, step, bindings, watches[step["watch"]])
        if "quiet" in step or "ended" in step:
            return await self._silence(step, watches[step["watch"]])
        if "watch" in step and "body" not in step["response"]:
            response = await self._open(bindings.fill(step["request"]))
            if response.status != step["response"]["status"]:
                return [f"HTTP {response.status}: {await response.text()}"]
            watches[step["watch"]] = Watch(response)
            return []
        loop = asyncio.get_running_loop()
        end = loop.time() + step.get("eventually", 0)
        while True:
            trial = Bindings(bindings)
            answer = await self._send(bindings.fill(step["request"]))
            found = self._compared(recording, step, trial, answer)
            if not found:
                bindings.update(trial)
                return []
            if loop.time() >= end:
                return found
            await asyncio.sleep(0.05)

    def _compared(
        self, recording: dict[str, Any], step: dict[str, Any], bindings: Bindings, answer: dict[str, Any]
    ) -> list[str]:
        expected = step["response"]
        if answer["status"] != expected["status"]:
            return [f"HTTP {answer['status']} instead of {expected['status']}: {answer['text'][:300]}"]
        differences = Differences(bindings, step, managed=recording.get("managedFields") == "exact")
        for name, value in (expected.get("headers") or {}).items():
            got = answer["headers"].get(name)
            same = got is not None
            if name == "Content-Type" and got is not None:
                same = got.partition(";")[0] == value.partition(";")[0]
            if not same:
                differences.append(f"header {name}: expected {value}, got {got}")
        if "body" in expected:
            body = answer.get("body")
            if isinstance(body, dict) and isinstance(body.get("items"), list):
                body["items"] = [one for one in body["items"] if one.get("metadata", {}).get("name") not in PUBLISHED]
            if step.get("only") and isinstance(body, dict) and body.get("kind") != "Status":
                body = picked(body, step["only"])
            differences.compare(expected["body"], body, "body")
        elif "text" in expected and not bindings.match(expected["text"], answer["text"]):
            differences.append(f"text: {answer['text'][:200]!r}")
        return differences

    async def _events(
        self, recording: dict[str, Any], step: dict[str, Any], bindings: Bindings, watch: Watch
    ) -> list[str]:
        loop = asyncio.get_running_loop()
        end = loop.time() + step.get("within", 10)
        managed = recording.get("managedFields") == "exact"
        wanted = list(step["events"])
        while wanted:
            try:
                event = await watch.next(max(0.001, end - loop.time()))
            except TimeoutError:
                return [f"no event in time; still expected: {[one['type'] for one in wanted]}"]
            if event is None:
                return ["the stream ended"]
            if is_plain_bookmark(event) and wanted[0]["type"] != "BOOKMARK":
                continue
            trials = []
            for one in wanted if step.get("unordered") else wanted[:1]:
                trial = Differences(Bindings(bindings), step, managed=managed)
                trial.compare(one, event, "event")
                trials.append((len(trial), one, trial))
            _, one, best = min(trials, key=lambda item: item[0])
            if best and step.get("coalesce"):
                continue
            if best:
                return best
            bindings.update(best.bindings)
            wanted.remove(one)
        return []

    async def _silence(self, step: dict[str, Any], watch: Watch) -> list[str]:
        loop = asyncio.get_running_loop()
        end = loop.time() + step.get("quiet", step.get("ended", 0))
        while True:
            try:
                event = await watch.next(max(0.001, end - loop.time()))
            except TimeoutError:
                return [] if "quiet" in step else ["the server did not end the stream"]
            if event is None:
                return [] if "ended" in step else ["the stream ended"]
            if not is_plain_bookmark(event):
                return [f"unexpected event {event['type']}"]
