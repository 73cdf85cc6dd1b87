"""A client that knows only the address: it learns the messages by reflection, as `grpcurl` does."""

from typing import Any

import grpc
import numpy as np
from cases import Case, arguments, say
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

SERVICE = "inference.GRPCInferenceService"


def main() -> None:
    """Find the service, list its methods, and send every case."""
    address, model, cases = arguments()
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = sorted(database.get_services())
        pool = descriptor_pool.DescriptorPool(database)
        service = pool.FindServiceByName(SERVICE)
        for case in cases:
            case.answered("reflection", ask(channel, service, model, case))
        say(services=services, methods=[method.name for method in service.methods])


def ask(channel: Any, service: Any, model: str, case: Case) -> dict[str, Any]:
    """Send one case."""
    method = service.FindMethodByName("ModelInfer")
    kind: Any = message_factory.GetMessageClass(method.input_type)
    answer = message_factory.GetMessageClass(method.output_type)
    request = kind(model_name=model)
    for name, array in case.inputs.items():
        if array.dtype == object:
            request.inputs.add(name=name, datatype="BYTES", shape=array.shape)
            parts = b"".join(len(one).to_bytes(4, "little") + one for one in array.flat)
            request.raw_input_contents.append(parts)
            continue
        request.inputs.add(name=name, datatype=case.datatype(name), shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    call = channel.unary_unary(
        f"/{SERVICE}/ModelInfer", lambda message: message.SerializeToString(), answer.FromString
    )
    response = call(request, timeout=60)
    pairs = zip(response.outputs, response.raw_output_contents, strict=True)
    return {output.name: array_of(output, raw) for output, raw in pairs}


def array_of(output: Any, raw: bytes) -> Any:
    """Return an output as an array."""
    if output.datatype == "BYTES":
        values = []
        while raw:
            length = int.from_bytes(raw[:4], "little")
            values.append(raw[4 : 4 + length])
            raw = raw[4 + length :]
        return np.array(values, np.bytes_).reshape(output.shape)
    names = {"BOOL": "bool_", "FP16": "float16", "FP32": "float32", "FP64": "float64"}
    dtype = names.get(output.datatype, output.datatype.lower())
    return np.frombuffer(raw, dtype).reshape(output.shape)


if __name__ == "__main__":
    main()
