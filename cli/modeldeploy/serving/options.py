"""What `modeldeploy serve` is told, and how the model server and a unit of systemd are told the same. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

_PREFIX = "MODEL_SERVER_"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """The options of the command; `uri` has a scheme, and paths are absolute."""

    uri: str
    port: int
    host: str
    name: str
    poll: timedelta
    keep: str
    sha256: str
    sign_key: str
    trusted: bool
    judge_requests: int
    judge_time: timedelta
    min_agreement: float
    tolerance: float
    max_failures: float
    max_latency_ratio: float

    def settings(self) -> Mapping[str, str]:
        """The server's settings, as variables of its environment."""
        values = {
            "STORAGE_URI": self.uri,
            "HOST": self.host,
            "PORT": str(self.port),
            "NAME": self.name,
            "SHA256": self.sha256,
            "SIGNATURE_PUBLIC_KEY": self.sign_key,
            "TRUSTED": "true" if self.trusted else "",
        }
        return {f"{_PREFIX}{name}": value for name, value in values.items() if value}

    def supervisor_arguments(self) -> Sequence[str]:
        """Arguments of `python -m model_server edge`."""
        seconds = {"--poll": self.poll.total_seconds(), "--judge-seconds": self.judge_time.total_seconds()}
        return [*_pairs(seconds), *_pairs(self._limits()), *_pairs({"--keep": self.keep} if self.keep else {})]

    def own_arguments(self) -> Sequence[str]:
        """Arguments of `modeldeploy` that say all of this again."""
        given: dict[str, object] = {
            "--host": self.host,
            "--port": self.port,
            "--name": self.name,
            "--poll": _duration(self.poll),
            "--keep": self.keep,
            "--sha256": self.sha256,
            "--sign-key": self.sign_key,
            "--judge-time": _duration(self.judge_time),
            **self._limits(),
        }
        shown = {name: value for name, value in given.items() if value != ""}
        return ["serve", self.uri, *_pairs(shown), *(["--trusted"] if self.trusted else [])]

    def _limits(self) -> Mapping[str, object]:
        return {
            "--judge-requests": self.judge_requests,
            "--min-agreement": f"{self.min_agreement:g}",
            "--tolerance": f"{self.tolerance:g}",
            "--max-failures": f"{self.max_failures:g}",
            "--max-latency-ratio": f"{self.max_latency_ratio:g}",
        }


def _pairs(options: Mapping[str, object]) -> list[str]:
    return [part for name, value in options.items() for part in (name, str(value))]


def _duration(duration: timedelta) -> str:
    return f"{duration.total_seconds():g}s"
