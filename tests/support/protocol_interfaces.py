"""Interfaces of pretended models, for the protocol's pure functions."""

from collections.abc import Callable
from typing import Any

from modelseal.engine import TensorSpec
from modelseal_runtime.protocol.failure import Failure
from modelseal_runtime.protocol.query import Interface


def spec(name: str, datatype: str = "FP32", *shape: int, alias: str = "") -> TensorSpec:
    """Return a tensor's specification."""
    aliases = frozenset([alias]) if alias else frozenset()
    return TensorSpec(name=name, datatype=datatype, shape=shape, aliases=aliases)


def one(datatype: str = "FP32", *shape: int) -> Interface:
    """Return a model of one input `x` and one output `y`."""
    return Interface([spec("x", datatype, *shape)], [spec("y", datatype, *shape)])


def two() -> Interface:
    """Return a model of two inputs and two outputs."""
    return Interface(
        [spec("a", "FP32", -1, 2), spec("b", "INT64", -1, 2)],
        [spec("sum", "FP32", -1, 2), spec("count", "INT64", -1, 2, alias="number")],
    )


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or the failure that it raises; nothing else may be raised."""
    try:
        return call()
    except Failure as failure:
        return failure
