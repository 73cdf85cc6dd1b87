"""A model whose inference takes as long as its batch is large."""

import numpy as np

from modelseal.engine._openvino import ov
from support.models import Files, serialized

WIDTH = 1024


def slow(repeats: int = 64) -> Files:
    """Return `repeats` products with one matrix; a row of the input `x` costs 2 MFLOP each time."""
    op = ov.opset13
    x = op.parameter([-1, WIDTH], ov.Type.f32, name="x")
    x.output(0).get_tensor().set_names({"x"})
    random = np.random.default_rng(3)
    weights = op.constant((random.standard_normal((WIDTH, WIDTH)) / WIDTH).astype(np.float32))
    y = x
    for _ in range(repeats):
        y = op.relu(op.matmul(y, weights, False, False))
    y = op.reduce_mean(y, np.array([1]), keep_dims=True)
    y.output(0).get_tensor().set_names({"y"})
    return serialized(ov.Model([y], [x], "slow"))


def rows(count: int) -> bytes:
    """Return a raw binary request of that many rows."""
    return np.ones((count, WIDTH), np.float32).tobytes()
