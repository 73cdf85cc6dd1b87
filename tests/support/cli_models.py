"""Small models for tests of the command line, and the ways to seal them."""

import os
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from support.cli import Result, run

MODEL = "team/tiny"
CANARY = b"canary-weights-5d2c"


def plain_ir(folder: Path, *, weights: int = 3 << 20) -> Path:
    """Write what looks like an OpenVINO IR; nothing but sealing can be done with it."""
    path = folder / "tiny.xml"
    path.write_text('<?xml version="1.0"?>\n<net name="tiny-canary" version="11"></net>\n')
    path.with_suffix(".bin").write_bytes(CANARY + os.urandom(max(0, weights - len(CANARY))))
    return path


def small_onnx(folder: Path, name: str = "double.onnx") -> Path:
    """Write a real ONNX model that doubles a vector of any length."""
    vector = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    doubled = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    two = helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["y"])], "double", [vector], [doubled], [two]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / name
    onnx.save(model, str(path))
    return path


def key_file(folder: Path, name: str = "my.key") -> Path:
    """Make a sealing key with the command line itself."""
    path = folder / name
    assert run("keygen", "-o", path).code == 0
    return path


def seal(source: Path, output: Path, *more: str | Path, key: str) -> Result:
    """Seal with the command line; the caller looks at the result."""
    return run(
        *("seal", source, "-o", output, "--model", MODEL, "--version", "1", "--key", key, *more)
    )
