"""Networks of convolutions that take a wanted time, found by measuring on the machine."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

SHAPE = (1, 3, 64, 64)
CHANNELS = {0.1: 4, 0.3: 8, 1.0: 16, 2.0: 24, 10.0: 48, 50.0: 96}


def write_model(path: Path, milliseconds: float) -> float:
    """Write an IR that takes about that long on one thread; return how long it takes, in ms."""
    channels = CHANNELS[milliseconds]
    few, many = 2, 8
    base, slope = _time(_network(channels, few)), 0.0
    slope = max(1e-3, (_time(_network(channels, many)) - base) / (many - few))
    layers = max(1, few + round((milliseconds - base) / slope))
    network = _network(channels, layers)
    ov.save_model(network, path, compress_to_fp16=False)
    return _time(network)


def _network(channels: int, layers: int) -> Any:
    random = np.random.default_rng(2026)
    source = op.parameter(list(SHAPE), np.float32, name="x")
    source.output(0).get_tensor().set_names({"x"})
    node = source
    for layer in range(layers + 1):
        size = (channels, 3 if layer == 0 else channels, 3, 3)
        weights = (random.standard_normal(size) * (2 / (size[1] * 9)) ** 0.5).astype(np.float32)
        stride = 2 if layer == 0 else 1
        node = op.relu(
            op.convolution(node, op.constant(weights), [stride] * 2, [1, 1], [1, 1], [1, 1])
        )
    node = op.reduce_mean(node, np.array([2, 3]), keep_dims=False)
    node.output(0).get_tensor().set_names({"y"})
    return ov.Model([node], [source], "network")


def _time(network: Any) -> float:
    """Return the least processor time of one inference on one thread, in ms."""
    compiled = ov.Core().compile_model(
        network, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}
    )
    request = compiled.create_infer_request()
    spent = []
    for _ in range(30):
        start = time.process_time()
        request.infer()
        spent.append(time.process_time() - start)
    return min(spent) * 1000
