"""Clients that others wrote, untouched, against the runtime as a process, with real models.

Each answer, in whatever form it travelled, equals that of OpenVINO in this process bit for bit.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from modelseal.contract import Env
from modelseal.engine import DTYPES, LoadedModel
from modelseal.handover import Loaded
from support import models, real_models
from support.environments import environment, run_client
from support.protocol_runtime import Runtime, joined
from support.requirements import unavailable

pytestmark = [pytest.mark.e2e, pytest.mark.clients]
Arrays = dict[str, models.Array]


@dataclass(kw_only=True)
class Served:
    """A runtime that serves a model, what to send, and what OpenVINO itself answers."""

    runtime: Runtime
    folder: Path
    expected: dict[str, Arrays]

    def address(self, port: str) -> str:
        """Return where the server listens."""
        return f"127.0.0.1:{self.runtime.ports[port]}"

    def run(self, clients: str, script: str, port: str) -> Any:
        """Run a client; return what it says, after a look at what it got."""
        said = run_client(clients, script, self.address(port), "model", str(self.folder))
        self.compare()
        return said

    def compare(self) -> None:
        """Compare every answer that clients left, and remove them."""
        found = 0
        for path in self.folder.glob("*/*.npz"):
            if path.stem == "in":
                continue
            with np.load(path) as answer:
                expected = self.expected[path.parent.name]
                assert set(answer.files) == set(expected), path
                for name, array in expected.items():
                    found += 1
                    assert same(answer[name], array), f"{path.stem} got {name} wrong"
            path.unlink()
        assert found


def same(found: models.Array, expected: models.Array) -> bool:
    """Whether two arrays have the same shape and bits."""
    if not expected.size:  # tritonclient gives every empty output the same type
        return bool(found.shape == expected.shape)
    if expected.dtype == np.object_:
        return bool(found.shape == expected.shape and found.tolist() == expected.tolist())
    bits = (found.shape, found.dtype, found.tobytes())
    return bits == (expected.shape, expected.dtype, expected.tobytes())


def write(folder: Path, name: str, inputs: Arrays) -> None:
    """Put a case where clients find it."""
    place = folder / name
    place.mkdir()
    plain = {n: a.astype(np.bytes_) if a.dtype == np.object_ else a for n, a in inputs.items()}
    np.savez(place / "in.npz", **plain)  # type: ignore[arg-type] # its stubs want only arrays


def every_type_cases() -> dict[str, Arrays]:
    """Return inputs of every type: ordinary values, the edges of each type, and no rows at all."""
    random = np.random.default_rng(11)
    some, edges = {}, {}
    for kind in models.KINDS:
        dtype = DTYPES[kind]
        if kind == "BYTES":
            some[f"in_{kind}"] = np.array([[b"a", b"", b"in\0side"]] * 2, np.object_)
            edges[f"in_{kind}"] = np.array([["\u20ac".encode(), b"x" * 300, b" "]], np.object_)
        elif dtype.kind == "f":
            some[f"in_{kind}"] = random.standard_normal((2, 3)).astype(dtype)
            limits = np.finfo(dtype)
            edges[f"in_{kind}"] = np.array([[limits.max, limits.tiny, -0.0]], dtype)
        elif dtype.kind == "b":
            some[f"in_{kind}"] = np.array([[True, False, True]] * 2)
            edges[f"in_{kind}"] = np.array([[False, False, True]])
        else:
            bounds = np.iinfo(dtype)
            some[f"in_{kind}"] = np.arange(6, dtype=dtype).reshape(2, 3)
            edges[f"in_{kind}"] = np.array([[bounds.min, bounds.max, 1]], dtype)
    some["scalar"] = np.array(-5, np.int64)
    edges["scalar"] = np.array(np.iinfo(np.int64).min, np.int64)
    none = {name: array[:0] if array.ndim else array for name, array in some.items()}
    return {"some": some, "edges": edges, "none": none}


@pytest.fixture(scope="module")
def every_type(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a model with an input of every type."""
    contents, cases = models.every_type(), every_type_cases()
    folder = tmp_path_factory.mktemp("types")
    with LoadedModel.load(models.views(contents), release=lambda: None) as here:
        expected = {name: here.infer(inputs) for name, inputs in cases.items()}
    yield from serve(folder, contents, cases, expected)


@pytest.fixture(scope="module")
def filetype(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve the real model of `magika`."""
    path, folder = models.magika_onnx(), tmp_path_factory.mktemp("filetype")
    cases = {f"rows{n}": {"bytes": models.magika_input(n)} for n in (1, 3)}
    compiled = real_models.directly(path)
    expected = {n: real_models.answers(compiled, inputs) for n, inputs in cases.items()}
    yield from serve(folder, real_models.contents(path), cases, expected)


def serve(
    folder: Path, contents: models.Files, cases: dict[str, Arrays], expected: dict[str, Arrays]
) -> Iterator[Served]:
    """Serve a model under the name `model`."""
    place = folder / "cases"
    place.mkdir()
    for name, inputs in cases.items():
        write(place, name, inputs)
    with joined(folder / "log", {Env.PERFORMANCE_HINT: "LATENCY"}) as (runtime, agent):
        assert isinstance(agent.deliver(contents), Loaded), runtime.describe()
        runtime.wait_ready()
        yield Served(runtime=runtime, folder=place, expected=expected)


@pytest.fixture(params=["every_type", "filetype"])
def served(request: pytest.FixtureRequest) -> Served:
    """Return each of the two models in turn."""
    found: Served = request.getfixturevalue(request.param)
    return found


def test_tritons_client_over_http(served: Served) -> None:
    said = served.run("triton", "triton_http.py", "rest")
    assert (said["live"], said["ready"], said["model_ready"]) == (True, True, True)
    assert said["server"]["name"] == "modelseal"
    assert (said["metadata"]["name"], said["config"]["name"]) == ("model", "model")
    assert said["index"] == [{"name": "model", "version": "3", "state": "READY", "reason": ""}]
    (statistics,) = said["statistics"]["model_stats"]
    assert statistics["inference_count"] > 0
    assert [status for status, _ in said["errors"]] == ["404", "400", "501", "501"]
    assert "there is no model 'nobody'" in said["errors"][0][1]


def test_tritons_asynchronous_client_over_http(served: Served) -> None:
    said = served.run("triton", "triton_http_aio.py", "rest")
    assert (said["live"], said["ready"], said["model_ready"]) == (True, True, True)


def test_tritons_client_over_grpc(served: Served) -> None:
    said = served.run("triton", "triton_grpc.py", "grpc")
    assert (said["live"], said["ready"], said["model_ready"]) == (True, True, True)
    assert said["config"]["config"]["backend"] == "openvino"
    assert said["index"]["models"] == [{"name": "model", "version": "3", "state": "READY"}]
    (statistics,) = said["statistics"]["model_stats"]
    assert int(statistics["inference_count"]) > 0
    assert [status for status, _ in said["errors"]] == [
        "StatusCode.NOT_FOUND",
        "StatusCode.INVALID_ARGUMENT",
        "StatusCode.UNIMPLEMENTED",
        "StatusCode.UNIMPLEMENTED",
    ]


def test_tritons_asynchronous_client_over_grpc(served: Served) -> None:
    said = served.run("triton", "triton_grpc_aio.py", "grpc")
    assert (said["live"], said["ready"], said["model_ready"]) == (True, True, True)


def test_kserves_client_over_rest(filetype: Served) -> None:
    said = filetype.run("kserve", "kserve_rest.py", "rest")
    assert (said["live"], said["ready"], said["model_ready"]) == (True, True, True)


def test_kserves_client_over_grpc(filetype: Served) -> None:
    said = filetype.run("kserve", "kserve_grpc.py", "grpc")
    assert (said["live"], said["ready"], said["model_ready"]) == (True, True, True)


def test_the_library_requests_with_json(filetype: Served) -> None:
    said = filetype.run("triton", "plain_requests.py", "rest")
    assert said["kinds"] == {"target_label": "FP32"}


def test_a_client_that_learns_the_protocol_by_reflection(served: Served) -> None:
    said = served.run("triton", "reflecting.py", "grpc")
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(said["services"])
    assert {"ModelInfer", "ModelMetadata", "ServerReady"} <= set(said["methods"])


def test_curl_sends_json_and_raw_bytes(filetype: Served, tmp_path: Path) -> None:
    curl = shutil.which("curl") or unavailable("there is no curl")
    url = f"http://{filetype.address('rest')}/v2/models/model/infer"
    array = np.load(filetype.folder / "rows1" / "in.npz")["bytes"]
    expected = filetype.expected["rows1"]["target_label"]
    tensor = {"name": "bytes", "datatype": "INT32", "shape": [1, 2048], "data": array.tolist()}
    (tmp_path / "json").write_text(json.dumps({"inputs": [tensor]}))
    (tmp_path / "raw").write_bytes(array.tobytes())
    sent = [curl, "-sS", "--fail-with-body", "--compressed", url, "--data-binary"]
    said = subprocess.run([*sent, f"@{tmp_path / 'json'}"], capture_output=True, check=True)
    (output,) = json.loads(said.stdout)["outputs"]
    assert np.array(output["data"], np.float32).tobytes() == expected.tobytes()
    header = ["-H", "Inference-Header-Content-Length: 0", "-H", "Expect: 100-continue"]
    said = subprocess.run([*sent, f"@{tmp_path / 'raw'}", *header], capture_output=True, check=True)
    assert said.stdout.endswith(expected.tobytes())


def test_text_in_a_real_picture_is_found_and_read(tmp_path: Path) -> None:
    page = real_models.page()
    found = through(
        tmp_path, real_models.detector(), {"page": {"x": real_models.detection_input(page)}}
    )
    lines = real_models.lines(page, next(iter(found["page"].values())))
    cases = {f"{n:02}": {"x": real_models.recognition_input(line)} for n, line in enumerate(lines)}
    read = through(tmp_path, real_models.recognizer(), cases)
    characters = [*recognizable(), " "]
    said = [real_models.text(next(iter(read[name].values())), characters) for name in sorted(read)]
    assert "Region-based segmentation" in said
    assert "unambiguously as either object or background. Here," in said


def recognizable() -> list[str]:
    """Return the characters that the recogniser knows; it carries them itself."""
    properties = onnx.load(real_models.recognizer()).metadata_props
    return next(one.value for one in properties if one.key == "character").split("\n")


def through(folder: Path, onnx_path: Path, cases: dict[str, Arrays]) -> dict[str, Arrays]:
    """Send cases with two clients; return OpenVINO's answers, which those of the clients equal."""
    compiled = real_models.directly(onnx_path)
    expected = {name: real_models.answers(compiled, inputs) for name, inputs in cases.items()}
    place = folder / onnx_path.stem
    place.mkdir()
    for served in serve(place, real_models.contents(onnx_path), cases, expected):
        served.run("triton", "triton_http.py", "rest")
        served.run("triton", "triton_grpc_aio.py", "grpc")
    return expected


def test_a_voice_detector_keeps_its_state_between_requests(tmp_path: Path) -> None:
    path = real_models.voice()
    compiled = real_models.directly(path)
    random = np.random.default_rng(5)
    state = np.zeros((2, 1, 128), np.float32)
    cases: dict[str, Arrays] = {}
    expected: dict[str, Arrays] = {}
    for number in range(20):  # each state is the answer to the chunk before
        chunk = random.standard_normal((1, 576)).astype(np.float32) * np.float32(number % 4)
        inputs: Arrays = {"input": chunk, "sr": np.array(16000, np.int64), "state": state}
        cases[f"{number:02}"] = inputs
        expected[f"{number:02}"] = real_models.answers(compiled, inputs)
        state = expected[f"{number:02}"]["stateN"]
    for served in serve(tmp_path, real_models.contents(path), cases, expected):
        served.run("triton", "triton_http.py", "rest")
        served.run("triton", "triton_grpc.py", "grpc")


def test_the_openapi_document_is_true(filetype: Served, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            environment("schemathesis") / "bin" / "schemathesis", "run",
            f"http://{filetype.address('rest')}/v2/openapi.json",
            "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,"
            "response_headers_conformance,response_schema_conformance,unsupported_method",
            "--max-examples", "40", "--seed", "1", "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
