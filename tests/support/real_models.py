"""Real models and a real picture out of packages, and what OpenVINO itself makes of them."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modelseal.engine import convert_onnx
from support import models
from support.environments import environment, packages

Arrays = dict[str, models.Array]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@lru_cache
def carried(path: str) -> Path:
    """Return a file of one of the packages in `tests/clients/models.txt`."""
    return packages(environment("models", alone=True)) / path


def detector() -> Path:
    """Return the model that finds text in a picture."""
    return carried("rapidocr/models/PP-OCRv6_det_small.onnx")


def recognizer() -> Path:
    """Return the model that reads one line of text."""
    return carried("rapidocr/models/PP-OCRv6_rec_small.onnx")


def voice() -> Path:
    """Return the model that says whether somebody speaks; it takes and returns its state."""
    return carried("silero_vad/data/silero_vad_op18_ifless.onnx")


def contents(onnx: Path) -> models.Files:
    """Return a model as sealing would convert it."""
    with convert_onnx(onnx) as converted, converted.open_weights() as weights:
        return {"model.xml": converted.xml, "model.bin": weights.read()}


def directly(onnx: Path) -> Any:
    """Return the model compiled by OpenVINO itself, without anything of ours."""
    return models.core().compile_model(onnx, "CPU", {"PERFORMANCE_HINT": "LATENCY"})


def answers(compiled: Any, inputs: Arrays) -> Arrays:
    """Return what OpenVINO itself answers, by the first name of each output."""
    results = compiled(inputs)
    return {min(port.names): np.array(results[port]) for port in compiled.outputs}


def page() -> models.Array:
    """Return a scan of a printed page, RGB."""
    with Image.open(carried("skimage/data/page.png")) as picture:
        return np.asarray(picture.convert("RGB"))


def detection_input(picture: models.Array) -> models.Array:
    """Return a picture as the detector takes it: sides that are multiples of 32, normalised."""
    height, width = (side // 32 * 32 * 2 for side in picture.shape[:2])
    resized = np.asarray(Image.fromarray(picture).resize((width, height)), np.float32) / 255
    normal = (resized - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None])


def lines(picture: models.Array, probability: models.Array) -> list[models.Array]:
    """Cut the lines of text out of a picture: runs of rows where the detector sees some."""
    scale = picture.shape[0] / probability.shape[-2]
    seen = (probability[0, 0] > 0.3).mean(1) > 0.02
    edges = np.flatnonzero(np.diff(np.concatenate([[0], seen.astype(np.int8), [0]])))
    found = []
    for top, bottom in zip(edges[::2], edges[1::2], strict=True):
        margin = (bottom - top) * 0.4
        first, last = max(0, int((top - margin) * scale)), int((bottom + margin) * scale) + 1
        if last - first > 6:
            found.append(picture[first:last])
    return found


def recognition_input(line: models.Array) -> models.Array:
    """Return a line as the recogniser takes it: 48 high, between -1 and 1."""
    width = max(48, round(line.shape[1] * 48 / line.shape[0]))
    resized = np.asarray(Image.fromarray(line).resize((width, 48)), np.float32)
    return np.ascontiguousarray((resized / 127.5 - 1).transpose(2, 0, 1)[None])


def text(probability: models.Array, characters: list[str]) -> str:
    """Read the recogniser's answer: the best character of each step, repetitions once."""
    best = probability[0].argmax(1)
    kept = best[(best != 0) & np.concatenate([[True], best[1:] != best[:-1]])]
    return "".join(characters[index - 1] for index in kept)
