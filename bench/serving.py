"""How fast a sealed model is served, against OpenVINO's own benchmark and against other servers."""

import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from bench import peers
from bench.findings import Effort, Findings, Row, interleaved
from bench.served import NAME, Endpoint, cpu_seconds, served
from bench.serving_models import CHANNELS, SHAPE, write_model

TITLE = "Serving"
TARGETS = {0.3: "≥ 0.80", 1.0: "≥ 0.90", 2.0: "≥ 0.95", 10.0: "≥ 0.98", 50.0: "≥ 0.99"}
AGAINST_PEERS = (2.0,)
SECONDS = 2.0
CONNECTIONS = 8
URL = f"/v2/models/{NAME}/infer"
_OURS, _THEIRS = "served", "benchmark_app"


def measure(effort: Effort) -> Findings:
    """Serve models of five sizes, each beside `benchmark_app`, and two of them beside peers."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="modelseal-bench-", dir="/var/tmp") as name:
        session = Session(folder=Path(name), effort=effort)
        for milliseconds in CHANNELS:
            model = session.folder / f"model-{milliseconds:g}.xml"
            taken = write_model(model, milliseconds)
            with served(model, session.folder) as ours:
                question = f"{taken:.2g} ms on one thread, {ours.hint}"
                rows += session.beside_openvino(ours, model, question, TARGETS[milliseconds])
                if milliseconds in AGAINST_PEERS:
                    rows += session.beside_peers(ours, model, question)
    notes = [_INTRODUCTION, "\n".join(session.latencies), *session.absent]
    return Findings(rows=[*rows, *_json_rows(effort)], notes=notes)


_INTRODUCTION = """`benchmark_app` runs in the same session with `-inference_only=false` and the
hint that the runtime chose; it has no client to feed. The runtime is what `modelseal serve` starts
for the sealed model; eight connections keep one binary request of 49 kB each on its way, from a
process on the same processors. So requests per second say more about the machine than about the
server where other work runs on it; requests per second of processor time are what is left of the
processors with a client elsewhere. Peers serve the plain model with the same hint and are compared
by processor time. Latencies are those of requests that come at a fixed rate, a share of what was
served, and count from when each was due."""
_LATENCY_HEAD = (
    "| model | server CPU per request | client CPU per request | at 50 %: p50, p99 "
    "| at 80 %: p50, p99 |",
    "| --- | --- | --- | --- | --- |",
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measurement: requests per second, and processor seconds per request on both sides."""

    rate: float
    cpu: float
    client_cpu: float


@dataclass(kw_only=True)
class Session:
    """What the rows of one run share."""

    folder: Path
    effort: Effort
    latencies: list[str] = field(default_factory=lambda: list(_LATENCY_HEAD))
    absent: list[str] = field(default_factory=list)

    def beside_openvino(self, ours: Endpoint, model: Path, question: str, target: str) -> list[Row]:
        """Compare with `benchmark_app`, then measure latencies at shares of what was served."""
        theirs = BenchmarkApp(model, ours.hint)
        request = self._request("binary", URL)
        runs: dict[str, list[Run]] = {_OURS: [], _THEIRS: []}
        sides: dict[str, Callable[[], float]] = {
            _OURS: lambda: _kept(runs[_OURS], _run(ours.port, ours.pid, request)),
            _THEIRS: lambda: _kept(runs[_THEIRS], theirs.run()),
        }
        rates = interleaved(sides, rounds=self.effort.rounds)
        costs = {side: [1 / run.cpu for run in found[1:]] for side, found in runs.items()}
        common = {"ours": _OURS, "baseline": _THEIRS, "target": target}
        self.latencies.append(self._latencies(question, ours, runs))
        return [
            Row(
                question=f"{question}: requests per second of processor time",
                unit="1/s",
                values=costs,
                limit="what a request costs in Python; not split up further",
                **common,
            ),
            Row(
                question=f"{question}: requests per second",
                unit="1/s",
                values=rates,
                limit="the client, and what else the machine does, on the same processors",
                **common,
            ),
        ]

    def beside_peers(self, ours: Endpoint, model: Path, question: str) -> list[Row]:
        """Compare with every peer that runs here, by requests per second of processor time."""
        with ExitStack() as stack:
            started = self._start_peers(stack, model, ours.hint)
            present = [peer for peer in peers.KNOWN if peer.listed in started]
            sides: dict[str, Callable[[], float]] = {
                name: partial(_thrift, ours.port, ours.pid, self._request(form, URL))
                for name, form in (("served, binary", "binary"), ("served, JSON", "v2"))
            }
            for peer in present:
                request = self._request(peer.form, peer.path)
                sides[peer.name] = partial(_thrift, *started[peer.listed], request)
            values = interleaved(sides, rounds=self.effort.rounds)
        return [_peer_row(peer, question, values) for peer in present]

    def _start_peers(self, stack: ExitStack, model: Path, hint: str) -> dict[str, tuple[int, int]]:
        ports: dict[str, tuple[int, int]] = {}
        for listed in dict.fromkeys(peer.listed for peer in peers.KNOWN):
            try:
                ports[listed] = stack.enter_context(peers.serving(listed, model, hint))
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                self.absent.append(f"{listed} did not run here ({type(error).__name__}).")
        return ports

    def _latencies(self, question: str, ours: Endpoint, runs: Mapping[str, list[Run]]) -> str:
        server, client = (
            np.median([getattr(run, name) for run in runs[_OURS][1:]]) * 1e6
            for name in ("cpu", "client_cpu")
        )
        capacity = np.median([run.rate for run in runs[_OURS][1:]])
        cells = [question, f"{server:,.0f} µs", f"{client:,.0f} µs"]
        request = self._request("binary", URL)
        for share in (0.5, 0.8):
            rate = capacity * share
            try:
                loads = [_load(ours.port, request, rate=rate, connections=64) for _ in range(2)]
            except RuntimeError:  # other work took the processors meanwhile
                cells.append("the rate was not held")
                continue
            p50, p99 = (np.median([one[name] for one in loads]) for name in ("p50_ms", "p99_ms"))
            cells.append(f"{p50:,.1f} ms, {p99:,.1f} ms")
        return f"| {' | '.join(cells)} |"

    def _request(self, form: str, path: str) -> Path:
        """Write a whole HTTP request in one of the forms that servers take; return its file."""
        file = self.folder / f"{form}{path.replace('/', '-')}"
        if not file.exists():
            head, body = _body(form)
            line = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
            file.write_bytes(f"{line}Content-Length: {len(body)}\r\n{head}\r\n".encode() + body)
        return file


def _peer_row(peer: peers.Peer, question: str, values: Mapping[str, list[float]]) -> Row:
    ours = "served, binary" if peer.form in ("raw", "binary") else "served, JSON"
    return Row(
        question=f"{question}: per second of processor time, against {peer.name}",
        unit="1/s",
        values={ours: values[ours], peer.name: values[peer.name]},
        ours=ours,
        baseline=peer.name,
        target="> 1",
        limit="the inference itself" if ours.endswith("binary") else "12,288 numbers of JSON",
    )


def _json_rows(effort: Effort) -> list[Row]:
    """Compare reading a JSON request with the shortest way from JSON to numpy."""
    from modelseal.engine import TensorSpec  # noqa: PLC0415 -- loads OpenVINO
    from modelseal_runtime.protocol import rest  # noqa: PLC0415
    from modelseal_runtime.protocol.query import Interface  # noqa: PLC0415

    rows = []
    for shape in ((1, 3, 64, 64), (1, 3, 224, 224)):
        array = np.random.default_rng(1).random(shape, np.float32)
        spec = TensorSpec(name="x", datatype="FP32", shape=shape)
        interface = Interface([spec], [spec])
        tensor = {"name": "x", "datatype": "FP32", "shape": shape, "data": array.ravel()}
        body = orjson.dumps({"inputs": [tensor]}, option=orjson.OPT_SERIALIZE_NUMPY)
        sides = {
            "request": partial(
                _nanoseconds, partial(rest.parse, memoryview(body), None, interface), array.size
            ),
            "orjson and numpy": partial(_nanoseconds, partial(_shortest, body), array.size),
        }
        rows.append(
            Row(
                question=f"read {array.size:,} numbers of a JSON request",
                unit="ns each",
                values=interleaved(sides, rounds=effort.rounds),
                ours="request",
                baseline="orjson and numpy",
                target="≤ 1.1",
                limit="Python makes an object of every number; binary data costs nothing each",
            )
        )
    return rows


def _shortest(body: bytes) -> Any:
    return np.array(orjson.loads(body)["inputs"][0]["data"], np.float32)


def _nanoseconds(action: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(5):
        action()
    return (time.perf_counter() - start) / 5 / count * 1e9


def _run(port: int, pid: int, request: Path) -> Run:
    before = cpu_seconds(pid)
    found = _load(port, request)
    used = cpu_seconds(pid) - before
    return Run(
        rate=found["rate"],
        cpu=used / found["total"],
        client_cpu=found["client_cpu_us"] / 1e6,
    )


def _kept(runs: list[Run], run: Run) -> float:
    runs.append(run)
    return run.rate


def _thrift(port: int, pid: int, request: Path) -> float:
    return 1 / _run(port, pid, request).cpu


def _load(
    port: int, request: Path, *, rate: float = 0, connections: int = CONNECTIONS
) -> dict[str, float]:
    done = subprocess.run(
        [
            sys.executable, "-m", "bench.load", request, "--port", str(port),
            "--connections", str(connections), "--seconds", str(SECONDS), "--rate", str(rate),
        ],
        cwd=Path(__file__).resolve().parents[1], check=True, capture_output=True, text=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    if found["failed"] or not found["requests"]:
        raise RuntimeError(f"{found['failed']:.0f} of {found['requests']:.0f} requests failed")
    return found


class BenchmarkApp:
    """OpenVINO's own benchmark of one model."""

    def __init__(self, model: Path, hint: str) -> None:
        self._command = [
            str(Path(sys.executable).with_name("benchmark_app")), "-m", str(model), "-d", "CPU",
            "-hint", hint.lower(), "-inference_only", "false",
        ]  # fmt: skip
        self._start = min(self._measure("-niter", "1")[0] for _ in range(3))

    def run(self) -> Run:
        """Measure; the processor time of starting and compiling is taken off."""
        used, said = self._measure("-t", str(round(SECONDS)))
        count, rate = (
            float(re.search(rf"{name}:\s+([0-9.]+) ", said)[1])  # type: ignore[index]
            for name in ("Count", "Throughput")
        )
        return Run(rate=rate, cpu=max(used - self._start, 1e-6) / count, client_cpu=0.0)

    def _measure(self, *options: str) -> tuple[float, str]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [*self._command, *options], check=True, capture_output=True, text=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return used, done.stdout


def _body(form: str) -> tuple[str, bytes]:
    array = np.random.default_rng(1).random(SHAPE, np.float32)
    json_type = "Content-Type: application/json\r\n"
    if form == "raw":
        return "Content-Type: application/octet-stream\r\n", array.tobytes()
    values: list[float] = [round(float(value), 6) for value in array.ravel()]
    if form == "json":
        return json_type, json.dumps({"data": values}).encode()
    tensor: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": SHAPE}
    if form == "v2":
        return json_type, json.dumps({"inputs": [tensor | {"data": values}]}).encode()
    tensor["parameters"] = {"binary_data_size": array.nbytes}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    split = f"Inference-Header-Content-Length: {len(text)}\r\n"
    return f"Content-Type: application/octet-stream\r\n{split}", text + array.tobytes()
