"""What a served model should answer: OpenVINO's own numbers over the plaintext, computed here."""

import functools

import numpy as np
from numpy.typing import NDArray

from modelseal.cli.story import asking, filetype, samples
from modelseal.engine._openvino import ov
from support.kind_place import Place

Scores = NDArray[np.float32]


@functools.cache
def question() -> NDArray[np.int32]:
    """Return the tokens of a few real files, shape `[files, tokens]`."""
    return filetype.load().batch(list(samples.samples().values()))


@functools.cache
def expected() -> Scores:
    """Return OpenVINO's own answer, shape `[files, labels]`."""
    model = ov.Core().compile_model(str(filetype.load().model), "CPU")
    return np.array(model(question())[0], dtype=np.float32)


def is_right(place: Place, scores: Scores) -> bool:
    """Compare an answer with OpenVINO's own: bit for bit, where both ran on one kind of CPU."""
    wanted = expected()[: len(scores)]
    if place.cluster.node is None:  # a cluster that was given: its CPU may add in another order
        return np.allclose(scores, wanted, rtol=1e-3, atol=1e-5)
    return scores.dtype == wanted.dtype and scores.tobytes() == wanted.tobytes()


def answers_right(place: Place, name: str = "filetype") -> bool:
    """Ask over REST and gRPC, and compare both with OpenVINO's own answer."""
    with place.forwarded(name) as (rest, rpc):
        found = (asking.over_http(rest, name, question()), asking.over_grpc(rpc, name, question()))
    return all(is_right(place, scores) for scores in found)
