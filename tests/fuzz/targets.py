"""What every parser of foreign bytes promises, as functions that a fuzzer calls.

Each takes bytes. It returns whether they were accepted; a refusal by the parser's own error is
fine, anything else that is raised is a bug. What is accepted must have one meaning: written out and
read again it is the same.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from fuzz import targets_keys
from modelseal import handover
from modelseal.contract import Reason
from modelseal.envelope import encode_index, parse_index, parse_seal, parse_signer
from modelseal.envelope.manifest import encode_seal
from modelseal.errors import ModelsealError, PeerRejected
from modelseal_operator.foreign import parse_farewell, parse_report
from modelseal_operator.provider import parse_provider
from modelseal_operator.refusal import Refusal
from modelseal_operator.resource import parse_model
from modelseal_runtime.protocol.failure import Failure
from modelseal_runtime.protocol.rest import parse
from support.protocol_interfaces import two
from support.seals import tiny_seal, with_payload

_SEAL: Final = tiny_seal([b"index", b"a", b"b"], dek=bytes(32), seal_id=bytes(32)).seal
_SEAL_TEXT: Final = encode_seal(_SEAL)
_INTERFACE: Final = two()
_READERS: Final[Sequence[Callable[[Mapping[str, object]], object]]] = (
    parse_model,
    partial(parse_provider, "KeyProvider"),
    partial(parse_provider, "ClusterKeyProvider"),
)
_MAX_MESSAGE: Final = 500
"""Characters of a refusal: it quotes what it refuses, and must not repeat all of it."""


def seal(data: bytes) -> bool:
    """Check the parser of `seal.json`."""
    try:
        found = parse_seal(data)
    except ModelsealError as error:
        return _refused(error)
    assert parse_seal(encode_seal(found)) == found
    return True


def manifest(data: bytes) -> bool:
    """Check the parser of the manifest, behind the base64 that chance alone hardly gets through."""
    return seal(with_payload(_SEAL_TEXT, data))


def index(data: bytes) -> bool:
    """Check the parser of the encrypted index, as a holder of the data key could write it."""
    try:
        found = parse_index(data, _SEAL)
    except ModelsealError as error:
        return _refused(error)
    assert parse_index(encode_index(found), _SEAL) == found
    return True


def message(data: bytes) -> bool:
    """Check the parser of messages between agent and runtime."""
    try:
        found = handover.decode(data)
    except PeerRejected as error:
        return _refused(error)
    assert handover.decode(handover.encode(found)) == found
    return True


def signer(data: bytes) -> bool:
    """Check the parser of signers' URIs."""
    try:
        found = parse_signer(data.decode("utf-8", "replace"))
    except ModelsealError as error:
        return _refused(error)
    assert parse_signer(found.uri) == found
    return True


def report(data: bytes) -> bool:
    """Check how the operator reads an agent's report and its last words."""
    farewell = parse_farewell(data.decode("utf-8", "replace"), frozenset(Reason))
    return parse_report(data) is not None or farewell is not None


def resource(data: bytes) -> bool:
    """Check how the operator reads what tenants and administrators write."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError):
        return False
    if not isinstance(raw, dict):
        return False
    accepted = 0
    for read in _READERS:
        try:
            read(raw)
        except Refusal:
            continue
        accepted += 1
    return accepted > 0


def request(data: bytes) -> bool:
    """Check the parser of inference requests; the first two bytes say where binary data begins."""
    body = data[2:]
    length = int.from_bytes(data[:2], "big")
    try:
        parse(memoryview(body), None if length > len(body) else length, _INTERFACE)
    except Failure as failure:
        return _refused(failure)
    return True


def _refused(error: ModelsealError) -> bool:
    assert len(error.message) < _MAX_MESSAGE, len(error.message)
    assert error.message.isprintable(), ascii(error.message)
    return False


TARGETS: Final[Mapping[str, Callable[[bytes], bool]]] = {
    "seal": seal,
    "manifest": manifest,
    "index": index,
    "message": message,
    "signer": signer,
    "report": report,
    "resource": resource,
    "request": request,
    "answer": targets_keys.answer,
    "audit": targets_keys.audit,
}
