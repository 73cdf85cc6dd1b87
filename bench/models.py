"""Models of any size, made of seeded weights: the same on every machine."""

import math
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as op


def write_dense_model(path: Path, *, megabytes: int, width: int = 4096) -> Path:
    """Write an IR of float32 products with about `megabytes` MiB of weights; returns the .xml.

    Args:
        path: the `.xml` to write; the `.bin` goes beside it.
        megabytes: size of the weights in MiB, rounded up to whole layers.
        width: rows and columns of each layer.

    """
    generator = np.random.default_rng(2026)
    layers = max(1, round(megabytes * (1 << 20) / (4 * width * width)))
    source = op.parameter([1, width], np.float32, name="x")
    node = source
    for _ in range(layers):
        weights = generator.standard_normal((width, width), dtype=np.float32) / math.sqrt(width)
        node = op.relu(op.matmul(node, op.constant(weights), False, False))
    result = op.result(node)
    result.output(0).get_tensor().set_names({"y"})
    model = ov.Model([result], [source], "dense")
    ov.save_model(model, path, compress_to_fp16=False)
    return path
