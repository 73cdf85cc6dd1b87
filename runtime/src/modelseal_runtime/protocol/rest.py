"""Inference requests and answers over REST: JSON, and the binary tensor data extension.

A body is a JSON object, followed by the raw contents of those inputs that carry
`binary_data_size`; the header `Inference-Header-Content-Length` says where the JSON ends. A header
of 0 makes the whole body the contents of the model's only input.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from modelseal.engine import DTYPES, Array, TensorSpec
from modelseal.errors import shown
from modelseal_runtime.protocol.crowding import require_few_parts
from modelseal_runtime.protocol.failure import invalid
from modelseal_runtime.protocol.query import MAX_ID, Identity, Interface, Query, Wanted
from modelseal_runtime.protocol.tensors import (
    BYTES,
    checked_shape,
    decode_raw,
    decode_values,
    encode_raw,
    encode_values,
)

HEADER_NAME: Final = "Inference-Header-Content-Length"
HEADER_LENGTH: Final = HEADER_NAME.lower().encode()
JSON_TYPE: Final = b"application/json"
BINARY_TYPE: Final = b"application/octet-stream"
_NOT_FINITE: Final = re.compile("-?(NaN|Inf)")
_UNSUPPORTED: Final = ("shared_memory_region", "classification")


class Answer(NamedTuple):
    """A body with its type; `header_length` is where the JSON ends, if raw contents follow."""

    body: bytes
    header_length: int | None


def parse(body: memoryview, header_length: int | None, interface: Interface) -> Query:
    """Parse the body of an inference request.

    Args:
        body: the whole body; arrays of the result are views of it.
        header_length: the value of `Inference-Header-Content-Length`, if it was sent.
        interface: the model's inputs and outputs.

    Raises:
        Failure: the request does not follow the protocol.

    """
    if header_length == 0:
        return _raw_request(body, interface)
    length = body.nbytes if header_length is None else header_length
    if not 0 <= length <= body.nbytes:
        raise invalid(
            f"the header {HEADER_NAME} says {header_length}, and the body has {body.nbytes} bytes"
        )
    fields = _json_object(body[:length])
    parameters = _parameters("request", "", fields)
    raw = _Cursor(body[length:])
    inputs = dict(_inputs(fields.get("inputs"), raw))
    raw.require_end()
    default = _flag(parameters, "binary_data_output")
    return Query(
        id=_identifier(fields),
        inputs=inputs,
        outputs=_outputs(fields.get("outputs"), interface, default),
    )


def encode(identity: Identity, query: Query, outputs: Mapping[str, Array]) -> Answer:
    """Return the body that carries the outputs which the query asked for.

    Raises:
        Failure: an output cannot be sent in the form that was asked for.

    """
    raw: list[bytes] = []
    tensors = [_output(wanted, outputs[wanted.spec.name], raw) for wanted in query.outputs]
    header: dict[str, Any] = {"model_name": identity.name, "model_version": identity.version}
    if query.id:
        header["id"] = query.id
    header["outputs"] = tensors
    text = orjson.dumps(header, option=orjson.OPT_SERIALIZE_NUMPY)
    if not any(wanted.binary for wanted in query.outputs):
        return Answer(body=text, header_length=None)
    return Answer(body=b"".join((text, *raw)), header_length=len(text))


class _Cursor:
    """Takes raw contents off the end of a body, in order."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def take(self, name: str, size: Any) -> memoryview:
        if type(size) is not int or size < 0:
            raise invalid(f"the binary_data_size of {shown(name)} is not an integer >= 0")
        if size > self._data.nbytes:
            raise invalid(
                f"the input {shown(name)} should have {size} bytes of binary data, "
                f"{self._data.nbytes} are left in the body"
            )
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def require_end(self) -> None:
        if self._data.nbytes:
            raise invalid(f"the body has {self._data.nbytes} bytes that belong to no input")


def _json_object(text: memoryview) -> dict[str, Any]:
    require_few_parts(text)
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        if _NOT_FINITE.match(error.doc, error.pos):
            raise invalid(
                f"the body is not JSON, which has no NaN and no Infinity ({place}); "
                "send that input as binary data"
            ) from None
        raise invalid(f"the body is not JSON ({place})") from None
    if not isinstance(fields, dict):
        raise invalid("the body is not a JSON object")
    return fields


def _parameters(what: str, whose: str, fields: dict[str, Any]) -> dict[str, Any]:
    parameters = fields.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise invalid(f"the parameters of {_named(what, whose)} are not an object")
    for name in _UNSUPPORTED:
        if name in parameters:
            raise invalid(
                f"the parameter {name} of {_named(what, whose)} is not supported by this server"
            )
    return parameters


def _named(what: str, whose: str) -> str:
    return f"the {what} {shown(whose)}" if whose else f"the {what}"


def _flag(parameters: dict[str, Any], name: str, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise invalid(f"the parameter {name} is neither true nor false")
    return value


def _identifier(fields: dict[str, Any]) -> str:
    value = fields.get("id", "")
    if not isinstance(value, str) or len(value) > MAX_ID:
        raise invalid(f"the id is not a text of at most {MAX_ID} characters")
    return value


def _inputs(entries: Any, raw: _Cursor) -> Iterator[tuple[str, Array]]:
    if not isinstance(entries, list):
        raise invalid("the request has no list of inputs")
    seen: set[str] = set()
    for entry in entries:
        name = _name("input", entry)
        if name in seen:
            raise invalid(f"the input {shown(name)} is given twice")
        seen.add(name)
        yield name, _input(name, entry, raw)


def _input(name: str, entry: dict[str, Any], raw: _Cursor) -> Array:
    datatype = entry.get("datatype")
    if not isinstance(datatype, str):
        raise invalid(f"the input {shown(name)} has no datatype")
    shape = checked_shape(name, entry.get("shape"))
    parameters = _parameters("input", name, entry)
    if "binary_data_size" in parameters:
        if "data" in entry:
            raise invalid(f"the input {shown(name)} has both data and binary data")
        return decode_raw(name, datatype, shape, raw.take(name, parameters["binary_data_size"]))
    if "data" not in entry:
        raise invalid(f"the input {shown(name)} has neither data nor a binary_data_size")
    return decode_values(name, datatype, shape, entry["data"])


def _outputs(entries: Any, interface: Interface, binary: bool) -> Sequence[Wanted]:
    if entries is None or entries == []:
        return interface.all_outputs(binary=binary)
    if not isinstance(entries, list):
        raise invalid("the outputs of the request are not a list")
    wanted: dict[str, Wanted] = {}
    for entry in entries:
        name = _name("output", entry)
        parameters = _parameters("output", name, entry)
        if name in wanted:
            raise invalid(f"the output {shown(name)} is asked for twice")
        wanted[name] = interface.wanted(name, binary=_flag(parameters, "binary_data", binary))
    return tuple(wanted.values())


def _name(what: str, entry: Any) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise invalid(f"an {what} of the request has no name")
    return name


def _output(wanted: Wanted, array: Array, raw: list[bytes]) -> dict[str, Any]:
    spec = wanted.spec
    tensor: dict[str, Any] = {
        "name": wanted.name,
        "datatype": spec.datatype,
        "shape": list(array.shape),
    }
    if wanted.binary:
        contents = encode_raw(spec.datatype, array)
        raw.append(contents)
        tensor["parameters"] = {"binary_data_size": len(contents)}
    else:
        tensor["data"] = encode_values(wanted.name, spec.datatype, array)
    return tensor


def _raw_request(body: memoryview, interface: Interface) -> Query:
    count = len(interface.inputs)
    if count != 1:
        raise invalid(f"a raw binary request needs a model of one input, this one has {count}")
    spec = interface.inputs[0]
    if spec.datatype == BYTES:  # one element, without a length before it
        array: Array = np.full(_raw_shape(spec, 1), bytes(body), np.object_)
    else:
        shape = _raw_shape(spec, body.nbytes // DTYPES[spec.datatype].itemsize)
        array = decode_raw(spec.name, spec.datatype, shape, body)
    return Query(id="", inputs={spec.name: array}, outputs=interface.all_outputs(binary=True))


def _raw_shape(spec: TensorSpec, count: int) -> list[int]:
    """Return the shape of a raw request: one item, and at most one length from the size."""
    shape = list(spec.shape or ())
    open_lengths = [axis for axis, length in enumerate(shape) if length == -1]
    if len(open_lengths) > 1 and open_lengths[0] == 0:
        shape[open_lengths.pop(0)] = 1
    if len(open_lengths) > 1 or spec.shape is None:
        raise invalid("the model's input has a shape that a raw binary request cannot say")
    if open_lengths:
        rest = math.prod(length for length in shape if length != -1)
        shape[open_lengths[0]] = count // rest if rest else 0
    return shape
