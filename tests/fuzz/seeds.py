"""Writes the first inputs of each target: what the parsers' writers write.

.venv/bin/python tests/fuzz/seeds.py
"""

import base64
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from modelseal import handover  # noqa: E402 - the tests' folder comes first
from modelseal.contract import Reason  # noqa: E402
from modelseal.envelope import Index, IndexEntry, encode_index  # noqa: E402
from support.operator_objects import (  # noqa: E402
    SIGNER,
    cluster_provider_object,
    model_object,
    provider_object,
)


def seeds() -> dict[str, list[bytes]]:
    """Return some inputs of each target."""
    vectors = sorted((HERE.parent / "vectors/seals").glob("*/sealed/seal.json"))
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
    return {
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
        "request": [b"\xff\xff" + plain, len(head).to_bytes(2, "big") + head + bytes(24)],
    }


def envelope_of(path: Path) -> dict[str, str]:
    """Return the envelope of a `seal.json`."""
    found: dict[str, str] = json.loads(path.read_bytes())["envelope"]
    return found


def main() -> None:
    """Write them beside what fuzzing found."""
    for name, inputs in seeds().items():
        folder = HERE / "corpus" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (folder / f"seed-{number}").write_bytes(data)


if __name__ == "__main__":
    main()
