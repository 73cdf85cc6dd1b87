"""docs/runtime.md is held to the program: settings, metrics, reasons and paths."""

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson

from modelseal.contract import Env
from modelseal.engine import Refusal
from modelseal_runtime import http
from modelseal_runtime.budget import Budget
from modelseal_runtime.calibration import Choice
from modelseal_runtime.http import connection
from modelseal_runtime.http.routes import route
from modelseal_runtime.http.server import MAX_CONNECTIONS
from modelseal_runtime.metrics import Metrics
from modelseal_runtime.protocol import crowding
from modelseal_runtime.protocol.failure import Kind
from modelseal_runtime.protocol.query import MAX_ID, Identity
from modelseal_runtime.rpc.connections import LONGEST_SECONDS
from modelseal_runtime.rpc.server import MAX_CALLS_OF_ONE, MAX_STREAMS
from modelseal_runtime.scheduler import Scheduler
from modelseal_runtime.serving import Serving
from modelseal_runtime.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "runtime.md").read_text()
README = (ROOT / "runtime" / "README.md").read_text()
CHOICE = Choice(hint="LATENCY", why="")


def rendered() -> str:
    """Return the metrics of a runtime that serves."""
    metrics = Metrics()
    refused = (Refusal(device="GPU", why="none"),)
    model = SimpleNamespace(device="CPU", refused=refused)
    identity = Identity(name="m", version="1")
    served: Any = SimpleNamespace(model=model, identity=identity, digest="d", choice=CHOICE)

    async def follow() -> None:
        metrics.follow(Serving(), Scheduler(queue_size=1, observe=metrics.observe))

    asyncio.run(follow())
    metrics.follow_budget(Budget(1), lambda: 0)
    metrics.loaded(served, 0.0)
    metrics.failure("rest", Kind.INVALID)
    return metrics.render().decode()


def test_every_metric_is_described_and_no_other() -> None:
    found = {
        name + ("_total" if kind == "counter" and not name.endswith("_total") else "")
        for name, kind in re.findall(r"^# TYPE (modelseal_\w+) (\w+)$", rendered(), re.MULTILINE)
    }
    described = set(re.findall(r"^\| `(modelseal_\w+)` \|", PAGE, re.MULTILINE))
    assert described == found


def test_every_reason_is_described_with_its_statuses() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| `(\w+)` \|", PAGE, re.MULTILINE)
    assert {(label, int(http_), grpc) for label, http_, grpc in rows} == {
        (kind.label, kind.http, kind.grpc) for kind in Kind
    }


class Watched(dict[str, str]):
    """An environment that remembers what was looked up."""

    def __init__(self) -> None:
        super().__init__({Env.PEER_UID: "1"})
        self.read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(str(key))
        return super().get(key, default)


def test_every_setting_is_described() -> None:
    environ = Watched()
    Settings.from_env(environ)
    ports = {Env.GRPC_PORT: "_GRPC_PORT", Env.HEALTH_PORT: "_HEALTH_PORT"}
    for name in environ.read:
        assert ports.get(name, name) in README, f"{name} is not described"  # type: ignore[call-overload]
    for name in re.findall(r"^\| `(MODELSEAL_\w+)` \|", PAGE, re.MULTILINE):
        assert name in environ.read, f"{name} is described and not read"


def test_every_path_of_the_openapi_document_is_described() -> None:
    text = Path(http.__path__[0], "openapi.json").read_bytes()
    for path in orjson.loads(text)["paths"]:
        plain = path.replace("{model}", "NAME").replace("/versions/{version}", "[/versions/V]")
        assert route(path.replace("{model}", "m").replace("{version}", "1"))
        found = plain in PAGE or plain.replace("NAME", "NAME[/versions/V]") in PAGE
        assert found, f"{path} is not described"


def test_limits_are_those_of_the_code() -> None:
    assert f"{connection.MAX_HEADER_BYTES >> 10} KiB of header" in PAGE
    assert f"in {connection.HEADER_SECONDS:.0f} seconds" in PAGE
    assert f"{MAX_CONNECTIONS:,} connections on each port" in PAGE
    assert f"{MAX_CALLS_OF_ONE:,} calls of one connection" in PAGE
    assert f"{MAX_STREAMS} streams at a time" in PAGE
    assert f"{connection.KEEP_ALIVE_SECONDS:.0f} seconds for an idle" in PAGE
    assert f"{LONGEST_SECONDS / 60:.0f} minutes for a gRPC connection" in PAGE
    assert f"{MAX_ID:,} characters of id" in PAGE
    assert f"{crowding.MAX_OBJECTS:,} objects and {crowding.MAX_LISTS:,} lists" in PAGE
    assert f"{crowding.MAX_FIELDS:,} tensors and parameters" in PAGE
