"""Two clients of the Open Inference Protocol: HTTP with the standard library, gRPC by reflection.

Neither shares code with the server. The gRPC messages come from the server's own description, as
`grpcurl` would get them.
"""

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any, Final

import grpc
import numpy as np
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from numpy.typing import NDArray

from modelseal.errors import ServingError

HOST: Final = "127.0.0.1"
SECONDS: Final = 10.0
SERVICE: Final = "inference.GRPCInferenceService"
Scores = NDArray[np.float32]


def metadata(port: int, model: str) -> dict[str, Any]:
    """Return what the server says about the model over HTTP."""
    return _http(port, "GET", f"/v2/models/{model}")


def over_http(port: int, model: str, tokens: NDArray[np.int32]) -> Scores:
    """Ask over REST with JSON; returns scores of shape `[files, labels]`."""
    tensor = metadata(port, model)["inputs"][0]
    question = {
        "inputs": [
            {
                "name": tensor["name"],
                "datatype": tensor["datatype"],
                "shape": list(tokens.shape),
                "data": tokens.ravel().tolist(),
            }
        ]
    }
    answer = _http(port, "POST", f"/v2/models/{model}/infer", question)["outputs"][0]
    return np.array(answer["data"], dtype=np.float32).reshape(answer["shape"])


def over_grpc(port: int, model: str, tokens: NDArray[np.int32]) -> Scores:
    """Ask over gRPC with raw contents; returns scores of shape `[files, labels]`."""
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        described = _call(channel, pool, "ModelMetadata", name=model)
        request = {
            "model_name": model,
            "inputs": [
                {
                    "name": described.inputs[0].name,
                    "datatype": described.inputs[0].datatype,
                    "shape": tokens.shape,
                }
            ],
            "raw_input_contents": [tokens.tobytes()],
        }
        answer = _call(channel, pool, "ModelInfer", **request)
    scores = np.frombuffer(answer.raw_output_contents[0], dtype=np.float32)
    return scores.reshape(list(answer.outputs[0].shape))


def _call(channel: grpc.Channel, pool: DescriptorPool, method: str, **fields: Any) -> Any:
    """Call one method of the service with messages made from its own description."""
    described = pool.FindServiceByName(SERVICE).methods_by_name[method]
    question = message_factory.GetMessageClass(described.input_type)
    answer = message_factory.GetMessageClass(described.output_type)
    call = channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=question.SerializeToString,
        response_deserializer=answer.FromString,
    )
    return call(question(**fields), timeout=SECONDS)


def _http(port: int, method: str, path: str, body: object = None) -> dict[str, Any]:
    with _connection(port) as connection:
        content = json.dumps(body) if body is not None else None
        connection.request(method, path, content, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
    if answer.status != http.client.OK:
        raise ServingError(f"failed to ask the server: {answer.status} at {path}")
    parsed: dict[str, Any] = json.loads(data)
    return parsed


@contextlib.contextmanager
def _connection(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(HOST, port, timeout=SECONDS)
    try:
        yield connection
    finally:
        connection.close()
