"""The first inputs of each target: what the parsers' writers write, and what nobody writes."""

import base64
import json
from pathlib import Path

from modelseal import handover
from modelseal.contract import UNWRAPPED, Reason
from modelseal.envelope import Index, IndexEntry, encode_index, kek_context
from support.operator_objects import (
    SIGNER,
    cluster_provider_object,
    model_object,
    provider_object,
)


def seeds() -> dict[str, list[bytes]]:
    """Return some inputs of each target."""
    vectors = sorted(
        (Path(__file__).resolve().parents[1] / "vectors/seals").glob("*/sealed/seal.json")
    )
    entries = [
        IndexEntry(number=2, path="model.xml", role="model", sha256=bytes(32)),
        IndexEntry(number=1, path="sub/a.bin", role="weights", sha256=bytes(32)),
    ]
    messages: list[handover.Message] = [
        handover.Hello(protocol=1, empty=True),
        handover.Model(model="a/b", version="1", digest="sha256:0", size=4096, files=1),
        handover.Files(files=(handover.File(path="m.xml", role="model", offset=0, length=9),)),
        handover.Lease(valid_for=60.0),
        handover.Loaded(device="CPU", load_seconds=0.5),
        handover.LoadFailed(reason=Reason.MODEL_LOAD_FAILED),
        handover.Revoke(reason=Reason.KEY_REVOKED),
    ]
    tensors = [
        {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2]},
        {"name": "b", "datatype": "INT64", "shape": [1, 2], "data": [[3, 4]]},
    ]
    binary = [
        each | {"parameters": {"binary_data_size": size}}
        for each, size in zip(tensors, (8, 16), strict=True)
    ]
    for each in binary:
        del each["data"]
    plain = json.dumps({"id": "7", "inputs": tensors, "outputs": [{"name": "sum"}]}).encode()
    head = json.dumps({"inputs": binary, "parameters": {"binary_data_output": True}}).encode()
    told = {
        "stage": "Lease",
        "reason": "Serving",
        "since": "2026-01-01T00:00:00Z",
        "model": "vision/filetype",
        "version": "1",
        "digest": "sha256:" + "0" * 64,
        "posture": {"swap": False},
    }
    found = {
        "seal": [path.read_bytes() for path in vectors],
        "manifest": [base64.b64decode(envelope_of(path)["payload"]) for path in vectors],
        "index": [encode_index(Index(entries=tuple(entries)))],
        "message": [handover.encode(each) for each in messages],
        "signer": [SIGNER.encode(), b"file:release.pub", b"ecdsa-p256:AAAA"],
        "report": [
            json.dumps(told).encode(),
            json.dumps({"stage": "Unwrap", "reason": "KeyRevoked", "exitCode": 63}).encode(),
        ],
        "resource": [
            json.dumps(each).encode()
            for each in (model_object(), provider_object(), cluster_provider_object())
        ],
        "answer": _answers(),
        "audit": _records(),
        "request": [b"\xff\xff" + plain, len(head).to_bytes(2, "big") + head + bytes(24)],
    }
    return {name: [*inputs, b"", b"{}", b"[["] for name, inputs in found.items()}


def _answers() -> list[bytes]:
    """Return what a key service says, behind the bytes that choose status and question."""
    data: list[object] = [
        {"plaintext": base64.b64encode(bytes(32)).decode()},
        {"ciphertext": "vault:v2:AAAA"},
        {"ciphertext": "vault:v2:AAAA", "transit/decrypt/models": ["update"]},
    ]
    good = [json.dumps({"request_id": "", "data": each}).encode() for each in data]
    said = json.dumps({"errors": ["permission denied", "ciphertext version is too old"]}).encode()
    gone = b'{"data":{"metadata":{"deletion_time":"x","destroyed":true}}}'
    refusals = [bytes([status, login]) + said for status in range(4, 18) for login in (0, 1)]
    return [*(b"\0\0" + each for each in good), *refusals, b"\7\0" + gone]


def _records() -> list[bytes]:
    """Return lines of an audit log, of an agent's log, and objects of a cluster."""
    context = base64.b64encode(kek_context("vision/filetype", bytes(32))).decode()
    opened = {
        "type": "response",
        "time": "2026-01-01T00:00:00Z",
        "auth": {"display_name": "kubernetes-vision-filetype", "metadata": {}},
        "request": {
            "id": "0",
            "path": "transit/decrypt/models",
            "mount_type": "transit",
            "data": {"context": context},
        },
    }
    batch = opened | {"request": opened["request"] | {"data": {"batch_input": []}}}  # type: ignore[operator]
    claim = {
        "event": UNWRAPPED,
        "request": "0",
        "time": "2026-01-01T00:00:00Z",
        "model": "vision/filetype",
        "version": "1",
        "digest": "sha256:0",
        "key": "vault-transit transit/models",
        "keyVersion": 1,
        "host": "pod",
    }
    pod = {
        "kind": "Pod",
        "metadata": {"namespace": "v", "name": "pod", "creationTimestamp": "2026-01-01T00:00:00Z"},
    }
    late = [each | {"time": "0001-01-01T00:00:00+14:00"} for each in (opened, claim)]
    odd = claim | {"request": {}}
    records = (opened, batch, claim, odd, *late, {"items": [pod]})
    lines = [json.dumps(each).encode() for each in records]
    return [*lines, b"\n".join(lines)]


def envelope_of(path: Path) -> dict[str, str]:
    """Return the envelope of a `seal.json`."""
    found: dict[str, str] = json.loads(path.read_bytes())["envelope"]
    return found
