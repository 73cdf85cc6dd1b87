"""Inference requests and answers over gRPC, with raw or typed contents."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from modelseal.engine import DTYPES, Array, TensorSpec
from modelseal.errors import shown
from modelseal_runtime.proto import open_inference_pb2 as pb
from modelseal_runtime.protocol.failure import invalid
from modelseal_runtime.protocol.query import MAX_ID, Identity, Interface, Query, Wanted
from modelseal_runtime.protocol.tensors import (
    BYTES,
    RAW_ONLY,
    checked_shape,
    decode_raw,
    dtype_of,
    encode_raw,
    require_range,
)

_WIDE: Final = {"i": np.int64, "u": np.uint64}
_CONTENTS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


def parse(request: pb.ModelInferRequest, interface: Interface) -> Query:
    """Turn a message into a query.

    Raises:
        Failure: the request does not follow the protocol.

    """
    if len(request.id) > MAX_ID:
        raise invalid(f"the id is longer than {MAX_ID} characters")
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise invalid(f"there are {len(raw)} raw contents for {len(request.inputs)} inputs")
    inputs: dict[str, Array] = {}
    for index, tensor in enumerate(request.inputs):
        if tensor.name in inputs:
            raise invalid(f"the input {shown(tensor.name)} is given twice")
        contents = memoryview(raw[index]) if raw else None
        inputs[tensor.name] = _input(tensor, contents)
    return Query(id=request.id, inputs=inputs, outputs=_outputs(request, interface))


def encode(identity: Identity, query: Query, outputs: Mapping[str, Array]) -> pb.ModelInferResponse:
    """Return the message that carries the outputs which the query asked for, as raw contents."""
    response = pb.ModelInferResponse(
        model_name=identity.name, model_version=identity.version, id=query.id
    )
    for wanted in query.outputs:
        array = outputs[wanted.spec.name]
        response.outputs.add(name=wanted.name, datatype=wanted.spec.datatype, shape=array.shape)
        response.raw_output_contents.append(encode_raw(wanted.spec.datatype, array))
    return response


def metadata(identity: Identity, interface: Interface, platform: str) -> pb.ModelMetadataResponse:
    """Return a model's description."""
    return pb.ModelMetadataResponse(
        name=identity.name,
        versions=[identity.version],
        platform=platform,
        inputs=[_tensor(spec) for spec in interface.inputs],
        outputs=[_tensor(spec) for spec in interface.outputs],
    )


def _tensor(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype, shape=spec.shape or ()
    )


def _input(tensor: Any, raw: memoryview | None) -> Array:
    name, datatype = tensor.name, tensor.datatype
    shape = checked_shape(name, tuple(tensor.shape))
    if raw is not None:
        if tensor.HasField("contents"):
            raise invalid(f"the input {shown(name)} has both contents and raw contents")
        return decode_raw(name, datatype, shape, raw)
    dtype_of(name, datatype)
    if datatype in RAW_ONLY:
        raise invalid(f"the input {shown(name)} is {datatype}, which has no form but raw contents")
    values = getattr(tensor.contents, _CONTENTS[datatype])
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    if any(field != _CONTENTS[datatype] for field in filled):
        raise invalid(f"the input {shown(name)} is {datatype} and carries {filled[0]}")
    return _array(name, datatype, shape, values)


def _array(name: str, datatype: str, shape: Sequence[int], values: Any) -> Array:
    dtype = DTYPES[datatype]
    if datatype == BYTES:
        array: Array = np.empty(len(values), dtype)
        array[:] = values
    else:
        # Narrow integers travel as 32 bits, so what they hold has to be looked at.
        array = np.array(values, _WIDE.get(dtype.kind, dtype))
        require_range(name, datatype, array)
        array = array.astype(dtype, copy=False)
    if array.size != math.prod(shape):
        raise invalid(
            f"the input {shown(name)} has {len(values)} elements, which do not make {list(shape)}"
        )
    return array.reshape(shape)


def _outputs(request: pb.ModelInferRequest, interface: Interface) -> Sequence[Wanted]:
    if not request.outputs:
        return interface.all_outputs(binary=True)
    wanted: dict[str, Wanted] = {}
    for output in request.outputs:
        if output.name in wanted:
            raise invalid(f"the output {shown(output.name)} is asked for twice")
        if "classification" in output.parameters:
            raise invalid("the parameter classification is not supported by this server")
        wanted[output.name] = interface.wanted(output.name, binary=True)
    return tuple(wanted.values())
