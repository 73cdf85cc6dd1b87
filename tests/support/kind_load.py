"""Many clients at once over a model's Service, from a pod beside it."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelseal_runtime.proto import open_inference_pb2 as wire
from support.kind_asking import Scores, question
from support.kind_place import Place
from support.kind_workloads import run_script
from support.kube import Json

CLIENTS: Final = Path(__file__).with_name("pod_clients.py")
ROOM: Final = {"queueSize": 32, "maxBodySize": "1Mi", "performanceHint": "Latency"}
"""How a model is served that has room for all the clients."""
METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer that one client got at least once."""

    version: str
    scores: Scores


@dataclass(kw_only=True)
class Client:
    """What one client has seen."""

    kind: str
    answered: int
    answers: list[Answer]
    failures: list[str]


@dataclass(kw_only=True)
class Load:
    """What all clients have seen; filled in when they end."""

    clients: list[Client] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """What failed, with the kind of client."""
        return [f"{each.kind}: {text}" for each in self.clients for text in each.failures]


@contextlib.contextmanager
def asking(place: Place, image: str, name: str = "filetype") -> Iterator[Load]:
    """Ask a model for one file's type with many clients, as long as the block lasts.

    Args:
        place: the model's namespace.
        image: an image that has Python and gRPC.
        name: the model's.

    """
    run_script(place, "clients", image, CLIENTS, wait=True)
    command = place.kube.command(
        "exec", "-i", "clients", "--", "python3", f"/script/{CLIENTS.name}"
    )
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    load = Load()
    process.stdin.write(json.dumps(_told(place, name)) + "\n")
    process.stdin.flush()
    try:
        assert process.stdout.readline() == "asking\n"
        yield load
        said, _ = process.communicate(timeout=60)
        load.clients = [_client(raw) for raw in json.loads(said)]
    finally:
        process.kill()
        process.communicate(timeout=20)


def _told(place: Place, name: str) -> Json:
    tokens = question()[:1]
    tensor: Json = {"name": "bytes", "datatype": "INT32", "shape": list(tokens.shape)}
    message = wire.ModelInferRequest(model_name=name, raw_input_contents=[tokens.tobytes()])
    message.inputs.add(**tensor)
    return {
        "host": f"{name}.{place.namespace}.svc",
        "path": f"/v2/models/{name}/infer",
        "body": json.dumps({"inputs": [{**tensor, "data": tokens.ravel().tolist()}]}),
        "method": METHOD,
        "message": message.SerializeToString().hex(),
    }


def _client(raw: Json) -> Client:
    read = _from_rest if raw["kind"] == "REST" else _from_rpc
    answers = [read(bytes.fromhex(answer)) for answer in raw.pop("answers")]
    return Client(**raw, answers=answers)


def _from_rest(content: bytes) -> Answer:
    said: Any = json.loads(content)
    scores = np.array(said["outputs"][0]["data"], dtype=np.float32)
    return Answer(version=said["model_version"], scores=scores)


def _from_rpc(content: bytes) -> Answer:
    said = wire.ModelInferResponse.FromString(content)
    scores = np.frombuffer(said.raw_output_contents[0], dtype=np.float32)
    return Answer(version=said.model_version, scores=scores)
