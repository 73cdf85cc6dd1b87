"""Whether arrays fit a model's inputs; said in sentences that a client can act on."""

from collections.abc import Mapping, Sequence
from typing import Final

from modelseal.engine.tensors import BYTES, DTYPES, Array, TensorSpec
from modelseal.errors import RequestInvalid, shown

MAX_STRING_BYTES: Final = 256 << 20


def by_name(specs: Sequence[TensorSpec]) -> dict[str, TensorSpec]:
    """Index specifications by every name they answer to."""
    aliased = {alias: spec for spec in specs for alias in spec.aliases}
    return aliased | {spec.name: spec for spec in specs}


def in_order(
    specs: Sequence[TensorSpec], known: Mapping[str, TensorSpec], inputs: Mapping[str, Array]
) -> list[Array]:
    """Return the arrays in the order of the model's inputs, each of them fitting.

    `known` is what `by_name` makes of `specs`.

    Raises:
        RequestInvalid: an input is missing, unknown, given twice, or of another type or shape.

    """
    given: dict[str, Array] = {}
    for name, array in inputs.items():
        spec = known.get(name)
        if spec is None:
            raise RequestInvalid(
                f"the model has no input {shown(name)}",
                hint=f"its inputs are {', '.join(shown(one.name) for one in specs)}",
            )
        if spec.name in given:
            raise RequestInvalid(f"the input {shown(spec.name)} is given twice")
        require_fit(spec, array)
        given[spec.name] = array
    missing = [spec.name for spec in specs if spec.name not in given]
    if missing:
        raise RequestInvalid(f"the input {shown(missing[0])} is missing")
    return [given[spec.name] for spec in specs]


def require_shape(spec: TensorSpec, shape: Sequence[int]) -> None:
    """Refuse a shape that the input does not take; -1 in a specification takes any length.

    Raises:
        RequestInvalid: it does not.

    """
    wanted = spec.shape
    if wanted is None:
        return
    fits = len(wanted) == len(shape) and all(
        length in (-1, one) for length, one in zip(wanted, shape, strict=True)
    )
    if not fits:
        raise RequestInvalid(
            f"the input {shown(spec.name)} has the shape {list(shape)}, "
            f"expected {list(wanted)} (-1 takes any length)"
        )


def require_fit(spec: TensorSpec, array: Array) -> None:
    """Refuse an array of another type or shape.

    Raises:
        RequestInvalid: it does not fit.

    """
    if array.dtype != DTYPES[spec.datatype]:
        raise RequestInvalid(
            f"the input {shown(spec.name)} is of the numpy type {array.dtype}, "
            f"expected {DTYPES[spec.datatype]} for {spec.datatype}"
        )
    require_shape(spec, array.shape)
    if spec.datatype == BYTES:
        _require_strings(spec, array)


def _require_strings(spec: TensorSpec, array: Array) -> None:
    longest = 0
    # OpenVINO's binding takes strings as numpy's `S` type: as wide as the longest element, and
    # without zero bytes at the end.
    for value in array.flat:
        if not isinstance(value, bytes):
            raise RequestInvalid(f"the input {shown(spec.name)} has an element that is not bytes")
        if value.endswith(b"\0"):
            raise RequestInvalid(
                f"the input {shown(spec.name)} has an element that ends with a zero byte"
            )
        longest = max(longest, len(value))
    if longest * array.size > MAX_STRING_BYTES:
        raise RequestInvalid(
            f"the input {shown(spec.name)} has {array.size} elements of up to {longest} bytes, "
            f"allowed are {MAX_STRING_BYTES} bytes in all"
        )
