"""The same question to the plain model, in this process, to compare the answers."""

import mmap

import numpy as np
from numpy.typing import NDArray

from modelseal.cli.story.filetype import FileType, Tokens
from modelseal.engine import LoadedModel, convert_onnx


def answers(kind: FileType, tokens: Tokens) -> NDArray[np.float32]:
    """Return what OpenVINO says with the plain model; scores of shape `[files, labels]`."""
    with convert_onnx(kind.model) as converted:
        weights = mmap.mmap(-1, max(converted.weights_length, 1))
        with converted.open_weights() as file:
            weights.write(file.read())
        files = {
            "model.xml": memoryview(converted.xml),
            "model.bin": memoryview(weights)[: converted.weights_length],
        }
        with LoadedModel.load(files, release=lambda: None) as model:
            (scores,) = model.infer({model.inputs[0].name: tokens}).values()
    return scores
