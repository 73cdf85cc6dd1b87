"""Models for tests: small graphs made here, and a real one that a package carries."""

import os
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from modelseal.engine._openvino import ov

op = ov.opset13
Files = dict[str, bytes]
Array = np.ndarray[Any, np.dtype[Any]]


def core() -> Any:
    """Return an OpenVINO core."""
    return ov.Core()


def magika_onnx() -> Path:
    """Return the real ONNX model that the package `magika` carries."""
    root = Path(str(files("magika")))
    return next(root.glob("models/*/model.onnx"))


def magika_input(rows: int = 2, seed: int = 7) -> Array:
    """Return bytes of pretended files, as the model `magika` takes them."""
    return np.random.default_rng(seed).integers(0, 256, (rows, 2048)).astype(np.int32)


def serialized(model: Any, name: str = "model") -> Files:
    """Return a model as the two files of an IR."""
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder, f"{name}.xml")
        ov.serialize(model, xml, xml.with_suffix(".bin"))
        return {
            xml.name: xml.read_bytes(),
            f"{name}.bin": xml.with_suffix(".bin").read_bytes(),
        }


def joined(kind: str, shape: list[int]) -> Files:
    """Return a model that appends its input to itself: it takes every type and keeps every bit.

    The input is called `x` (also `alias`), the output `y`.
    """
    x = op.parameter(shape, getattr(ov.Type, kind), name="x")
    x.output(0).get_tensor().set_names({"x", "alias"})
    y = op.concat([x, x], 0) if shape else op.unsqueeze(x, np.array(0))
    y.output(0).get_tensor().set_names({"y"})
    return serialized(ov.Model([y], [x], "joined"))


def perceptron(width: int = 64, layers: int = 2, batch: int = -1, seed: int = 1) -> Files:
    """Return products with matrices, `layers * width**2 * 4` bytes; input `x`, output `y`."""
    random = np.random.default_rng(seed)
    x = op.parameter([batch, width], ov.Type.f32, name="x")
    x.output(0).get_tensor().set_names({"x"})
    y = x
    for _layer in range(layers):
        weights = (random.standard_normal((width, width)) / width**0.5).astype(np.float32)
        y = op.relu(op.matmul(y, op.constant(weights), False, False))
    y.output(0).get_tensor().set_names({"y"})
    return serialized(ov.Model([y], [x], "perceptron"))


def two_by_two() -> Files:
    """Return a model from `a` (FP32) and `b` (INT64) to `sum` and `count`."""
    a = op.parameter([-1, 2], ov.Type.f32, name="a")
    b = op.parameter([-1, 2], ov.Type.i64, name="b")
    a.output(0).get_tensor().set_names({"a"})
    b.output(0).get_tensor().set_names({"b"})
    total = op.add(a, op.convert(b, "f32"))
    count = op.add(b, op.constant(np.array(1, np.int64)))
    total.output(0).get_tensor().set_names({"sum"})
    count.output(0).get_tensor().set_names({"count"})
    return serialized(ov.Model([total, count], [a, b], "two"))


def views(contents: Files) -> dict[str, memoryview]:
    """Return read-only views of files."""
    return {path: memoryview(data) for path, data in contents.items()}


def resident_kib(field: str = "VmHWM") -> int:
    """Return a memory figure of this process in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise LookupError(field, os.getpid())


KINDS: dict[str, str] = {
    "BOOL": "boolean",
    "UINT8": "u8",
    "UINT16": "u16",
    "UINT32": "u32",
    "UINT64": "u64",
    "INT8": "i8",
    "INT16": "i16",
    "INT32": "i32",
    "INT64": "i64",
    "FP16": "f16",
    "FP32": "f32",
    "FP64": "f64",
    "BYTES": "string",
}


def every_type() -> Files:
    """Return a model with an input of each type, `in_KIND`, and an output of each, `out_KIND`.

    Each comes back twice, one after the other; `scalar` is an input without dimensions that comes
    back in a list of one, `listed`.
    """
    inputs, outputs = [], []
    for datatype, kind in KINDS.items():
        x = op.parameter([-1, 3], getattr(ov.Type, kind), name=f"in_{datatype}")
        x.output(0).get_tensor().set_names({f"in_{datatype}"})
        y = op.concat([x, x], 0)
        y.output(0).get_tensor().set_names({f"out_{datatype}"})
        inputs.append(x)
        outputs.append(y)
    scalar = op.parameter([], ov.Type.i64, name="scalar")
    scalar.output(0).get_tensor().set_names({"scalar"})
    listed = op.unsqueeze(scalar, np.array(0))
    listed.output(0).get_tensor().set_names({"listed"})
    return serialized(ov.Model([*outputs, listed], [*inputs, scalar], "every"))
