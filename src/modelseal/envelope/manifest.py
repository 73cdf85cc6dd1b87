"""`seal.json`: the signed manifest and the recipients (docs/format.md, sections 3 and 4).

Parsing is strict and bounded, and runs before any network call or allocation by a number from the
file. No I/O and no cryptography but one hash happen here.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from modelseal import contract
from modelseal.envelope import floe
from modelseal.envelope.recipients import MAX_KEY_LENGTH, MAX_WRAPPED_LENGTH, Recipient
from modelseal.envelope.strict import MAX_INTEGER, PRINTABLE, Node, Refusal, encode_base64
from modelseal.errors import HeaderError, LimitExceeded, NotSealed, UnsupportedVersion, shown

MAX_FILE_LENGTH: Final = 1 << 40
MAC_LENGTH: Final = 48
SEAL_ID_LENGTH: Final = 32
DIGEST_LENGTH: Final = 32
MAX_SIGNATURE_LENGTH: Final = 256
MAX_KEYID_LENGTH: Final = 128
MAX_VERSION_LENGTH: Final = 128

_SEGMENT: Final = r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?"
_MODEL: Final = re.compile(f"{_SEGMENT}/{_SEGMENT}")
_MAX_MODEL_LENGTH: Final = 127
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_KIND: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_MAX_KIND_LENGTH: Final = 32
_STAMP: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_STAMP_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"
_SOME: Final = re.compile(r"[\x20-\x7e]+")

_SEAL: Final = Refusal(document="seal.json", broken=HeaderError, limit=LimitExceeded)
_MANIFEST: Final = Refusal(document="the manifest", broken=HeaderError, limit=LimitExceeded)


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One payload of the manifest; its place in the list is its number."""

    number: int
    plaintext_length: int
    header: bytes
    """The 74 bytes of the FLOE header, which commit to key, number, count and length."""
    digest: bytes
    """SHA-256 over the hashes of header and segments of the ciphertext (section 8.4)."""

    @property
    def ciphertext_length(self) -> int:
        """Bytes of the payload object."""
        return floe.GCM256_IV256_1M.ciphertext_length(self.plaintext_length)

    @property
    def name(self) -> str:
        """The payload object's name, such as `p/0.floe`."""
        return f"p/{self.number}.floe"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What the sealer says once and signs; file 0 is the encrypted index."""

    model: str
    version: str
    sequence: int
    not_after: datetime | None
    seal_id: bytes
    files: tuple[FileEntry, ...]


@dataclass(frozen=True, kw_only=True)
class Signature:
    """One signature; the key id is only a hint."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """A DSSE envelope; `payload` is kept byte for byte."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, kw_only=True)
class Seal:
    """The whole of `seal.json`: `manifest` is what `envelope.payload` says."""

    manifest: Manifest
    envelope: Envelope
    mac: bytes
    recipients: tuple[Recipient, ...]

    @property
    def digest(self) -> str:
        """The seal's identity for pins: `sha256:` and the hash of the signed payload."""
        return contract.DIGEST_PREFIX + hashlib.sha256(self.envelope.payload).hexdigest()

    @property
    def plaintext_size(self) -> int:
        """Bytes of all files without the index, not rounded to pages."""
        return sum(entry.plaintext_length for entry in self.manifest.files[1:])

    @property
    def ciphertext_size(self) -> int:
        """Bytes of all payload objects."""
        return sum(entry.ciphertext_length for entry in self.manifest.files)


def valid_model_name(text: str) -> bool:
    """Whether a text is `OWNER/NAME` as section 3.3 demands."""
    return _MODEL.fullmatch(text) is not None


def valid_version(text: str) -> bool:
    """Whether a text is a version as section 3.3 demands."""
    return len(text) <= MAX_VERSION_LENGTH and _VERSION.fullmatch(text) is not None


def parse_seal(data: bytes) -> Seal:
    """Parse `seal.json` strictly (section 3).

    Raises:
        NotSealed: it is a plaintext model.
        UnsupportedVersion: it is of another format.
        LimitExceeded: a length or count is beyond the format's bounds.
        HeaderError: it is malformed in any other way.

    """
    if len(data) > contract.MAX_SEAL_BYTES:
        _SEAL.beyond(f"it is longer than {contract.MAX_SEAL_BYTES} bytes")
    if not data.lstrip(b" \t\r\n").startswith(b"{"):
        _refuse_model(data)
    top = Node.parse(data, _SEAL)
    _require_format(top)
    top.only(("format", "envelope", "mac", "recipients"))
    envelope = _parse_envelope(top.node("envelope"))
    return Seal(
        manifest=_parse_manifest(envelope.payload),
        envelope=envelope,
        mac=top.binary("mac", MAC_LENGTH, MAC_LENGTH),
        recipients=_parse_recipients(top.nodes("recipients", 1, contract.MAX_RECIPIENTS)),
    )


def encode_seal(seal: Seal) -> bytes:
    """Encode `seal.json`; the signed payload is taken as it is.

    Raises:
        LimitExceeded: it would be longer than a reader accepts.

    """
    envelope = seal.envelope
    data = _dumps(
        {
            "format": contract.FORMAT,
            "envelope": {
                "payloadType": envelope.payload_type,
                "payload": encode_base64(envelope.payload),
                "signatures": [
                    {"keyid": one.keyid, "sig": encode_base64(one.sig)}
                    for one in envelope.signatures
                ],
            },
            "mac": encode_base64(seal.mac),
            "recipients": [
                {"type": one.kind, "key": one.key, "wrapped": one.wrapped}
                for one in seal.recipients
            ],
        }
    )
    if len(data) > contract.MAX_SEAL_BYTES:
        raise LimitExceeded(
            f"failed to write seal.json: it would be longer than {contract.MAX_SEAL_BYTES} bytes",
            hint="seal fewer files, or pack small ones into an archive",
        )
    return data


def encode_manifest(manifest: Manifest) -> bytes:
    """Encode the payload that is then signed and never encoded again."""
    fields: dict[str, object] = {
        "format": contract.FORMAT,
        "seal_id": encode_base64(manifest.seal_id),
        "model": manifest.model,
        "version": manifest.version,
        "sequence": manifest.sequence,
    }
    if manifest.not_after is not None:
        fields["notAfter"] = manifest.not_after.astimezone(UTC).strftime(_STAMP_FORMAT)
    fields["files"] = [
        {
            "length": entry.plaintext_length,
            "header": encode_base64(entry.header),
            "digest": encode_base64(entry.digest),
        }
        for entry in manifest.files
    ]
    return _dumps(fields)


def replace_recipients(seal: Seal, recipients: Sequence[Recipient]) -> tuple[bytes, Seal]:
    """Give a seal other recipients; everything that was signed stays as it is.

    Returns the new `seal.json`, and what it is read as.

    Raises:
        HeaderError: the result would not be readable, such as without any recipient.

    """
    data = encode_seal(replace(seal, recipients=tuple(recipients)))
    return data, parse_seal(data)


def _dumps(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"


def _refuse_model(data: bytes) -> None:
    """Say so where a plaintext model lies in the place of `seal.json`; otherwise return."""
    text = data.lstrip()
    starts = (b"<?xml", b"<net", b"\x08", b"GGUF", b"PK\x03\x04", b"\x89HDF")
    if text.startswith(starts) or data[4:8] == b"TFL3" or data[8:9] == b"{":
        raise NotSealed("failed to read seal.json: it looks like a plaintext model")


def _require_format(node: Node) -> None:
    """Compare the format before anything else: another version may have other fields."""
    if "format" not in node.fields:
        node.refusal.malformed("format is missing")
    value = node.fields["format"]
    if type(value) is not str:
        node.refusal.malformed("format is not a string")
    if value != contract.FORMAT:
        raise UnsupportedVersion(
            f"failed to read {node.refusal.document}: its format is {shown(value)}, "
            f"not {contract.FORMAT}"
        )


def _parse_envelope(node: Node) -> Envelope:
    node.only(("payloadType", "payload", "signatures"))
    kind = node.text("payloadType", PRINTABLE, 256)
    if kind != contract.MANIFEST_TYPE:
        raise UnsupportedVersion(f"failed to read seal.json: its payload is of type {shown(kind)}")
    signatures = []
    for item in node.nodes("signatures", 0, contract.MAX_SIGNATURES):
        item.only(("keyid", "sig"))
        signatures.append(
            Signature(
                keyid=item.text("keyid", PRINTABLE, MAX_KEYID_LENGTH),
                sig=item.binary("sig", 1, MAX_SIGNATURE_LENGTH),
            )
        )
    payload = node.binary("payload", 1, contract.MAX_SEAL_BYTES)
    return Envelope(payload_type=kind, payload=payload, signatures=tuple(signatures))


def _parse_manifest(payload: bytes) -> Manifest:
    node = Node.parse(payload, _MANIFEST)
    _require_format(node)
    node.only(("format", "seal_id", "model", "version", "sequence", "files"), ("notAfter",))
    return Manifest(
        model=node.text("model", _MODEL, _MAX_MODEL_LENGTH),
        version=node.text("version", _VERSION, MAX_VERSION_LENGTH),
        sequence=node.integer("sequence", MAX_INTEGER),
        not_after=_parse_stamp(node) if "notAfter" in node.fields else None,
        seal_id=node.binary("seal_id", SEAL_ID_LENGTH, SEAL_ID_LENGTH),
        files=_parse_files(node.nodes("files", 2, contract.MAX_FILES)),
    )


def _parse_files(nodes: list[Node]) -> tuple[FileEntry, ...]:
    """Parse the list of files; bounds of every length come first."""
    files = []
    for number, node in enumerate(nodes):
        node.only(("length", "header", "digest"))
        maximum = MAX_FILE_LENGTH if number else contract.MAX_INDEX_BYTES
        header = node.binary("header", floe.HEADER_LENGTH, floe.HEADER_LENGTH)
        if not header.startswith(floe.GCM256_IV256_1M.encoded):
            raise UnsupportedVersion(
                f"failed to read the manifest: {node.where} is encrypted with other parameters"
            )
        files.append(
            FileEntry(
                number=number,
                plaintext_length=node.integer("length", maximum),
                header=header,
                digest=node.binary("digest", DIGEST_LENGTH, DIGEST_LENGTH),
            )
        )
    return tuple(files)


def _parse_recipients(nodes: list[Node]) -> tuple[Recipient, ...]:
    recipients = []
    for node in nodes:
        node.only(("type", "key", "wrapped"))
        recipients.append(
            Recipient(
                kind=node.text("type", _KIND, _MAX_KIND_LENGTH),
                key=node.text("key", _SOME, MAX_KEY_LENGTH),
                wrapped=node.text("wrapped", _SOME, MAX_WRAPPED_LENGTH),
            )
        )
    if len({(one.kind, one.key) for one in recipients}) < len(recipients):
        _SEAL.malformed("two recipients have the same type and key")
    return tuple(recipients)


def _parse_stamp(node: Node) -> datetime:
    text = node.text("notAfter", _STAMP, 64)
    try:
        return datetime.strptime(text, _STAMP_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        node.refusal.malformed(f"notAfter {shown(text)} is not a time")
