"""How much processor time a request costs beside other servers, and what JSON costs."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from bench import peers
from bench.findings import Effort, Findings, Row, interleaved
from bench.served import NAME, Endpoint, served
from bench.serving import URL, load_once, request_file
from bench.serving_models import write_model
from modelseal.engine import TensorSpec
from modelseal_runtime.protocol import rest
from modelseal_runtime.protocol.query import Interface

TITLE = "Serving beside other servers"
MODELS = (2.0, 10.0)
_OURS = {"raw": "binary", "binary": "binary", "grpc": "gRPC"}
_NOTE = """Every peer serves the plain model with the hint that our runtime chose, as its users
would load it, and is asked by the same client; figures are requests per second of the server's
processor time. Peers that take raw bytes or binary tensors are compared with our binary requests,
the others with our JSON. FastAPI with plain bytes is as little as a server can do: no protocol, no
checks of names, types, shapes and limits, no deadline, no metrics. By processor time it is
level: at 11 ms one run had it ahead (0.92), another behind (1.03)."""


def measure(effort: Effort) -> Findings:
    """Compare with every peer that runs here, at two sizes of models."""
    rows: list[Row] = []
    absent: dict[str, None] = {}
    with tempfile.TemporaryDirectory(prefix="modelseal-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        for milliseconds in MODELS:
            model = folder / f"model-{milliseconds:g}.xml"
            taken = write_model(model, milliseconds)
            with served(model, folder) as ours, ExitStack() as stack:
                started = _start(stack, model, ours.hint, absent)
                question = f"{taken:.2g} ms on one thread, {ours.hint}"
                rows += _beside(ours, started, question, folder, effort)
    return Findings(rows=[*rows, *_json_rows(effort)], notes=[_NOTE, *absent])


def _beside(
    ours: Endpoint, started: Mapping[str, tuple[int, int]], question: str, folder: Path,
    effort: Effort,
) -> list[Row]:  # fmt: skip
    present = [peer for peer in peers.KNOWN if peer.listed in started]
    sides: dict[str, Callable[[], float]] = {
        name: partial(_thrift, ours.port, ours.pid, request_file(folder, form, URL))
        for name, form in (("served, binary", "binary"), ("served, JSON", "v2"))
    }
    message = request_file(folder, "grpc", NAME)
    sides["served, gRPC"] = partial(_thrift, ours.grpc_port, ours.pid, message, "load_grpc")
    for peer in present:
        port, pid = started[peer.listed]
        request = request_file(folder, peer.form, peer.path)
        if peer.form == "grpc":
            sides[peer.name] = partial(_thrift, port + 1, pid, request, "load_grpc")
        else:
            sides[peer.name] = partial(_thrift, port, pid, request)
    values = interleaved(sides, rounds=effort.rounds)
    return [_row(peer, question, values) for peer in present]


def _start(
    stack: ExitStack, model: Path, hint: str, absent: dict[str, None]
) -> dict[str, tuple[int, int]]:
    ports: dict[str, tuple[int, int]] = {}
    for listed in dict.fromkeys(peer.listed for peer in peers.KNOWN):
        try:
            ports[listed] = stack.enter_context(peers.serving(listed, model, hint))
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            absent[f"{listed} did not run here ({type(error).__name__})."] = None
    return ports


def _row(peer: peers.Peer, question: str, values: Mapping[str, list[float]]) -> Row:
    ours = f"served, {_OURS.get(peer.form, 'JSON')}"
    return Row(
        question=f"{question}: per second of processor time, against {peer.name}",
        unit="1/s",
        values={ours: values[ours], peer.name: values[peer.name]},
        ours=ours,
        baseline=peer.name,
        target="> 1",
        limit="12,288 numbers of JSON" if ours.endswith("JSON") else "the inference itself",
    )


def _json_rows(effort: Effort) -> list[Row]:
    """Compare reading a JSON request with the shortest way from JSON to numpy."""
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


def _thrift(port: int, pid: int, request: Path, client: str = "load") -> float:
    return 1 / load_once(port, pid, request, client=client).cpu
