"""Sealed models for tests: in memory with tiny segments, or in folders that the library made."""

import base64
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from modelseal import contract
from modelseal.envelope import (
    DataKeys,
    Envelope,
    FileEntry,
    LocalSigner,
    Manifest,
    PlainFile,
    Recipient,
    Seal,
    decrypt_payload,
    seal_files,
)
from modelseal.envelope.derive import payload_context
from modelseal.envelope.encrypting import Plaintext, encrypt_payload
from modelseal.envelope.floe import Cipher, Parameters
from modelseal.envelope.manifest import encode_manifest
from modelseal.envelope.sealing import Wrap
from modelseal.errors import TrailingData, TruncatedError
from modelseal.secret import Secret
from support.mutation import Json

TINY = Parameters(segment_length=40, rotation_bits=2)
"""Eight plaintext bytes in a segment, and a new key for every fourth."""
MODEL = "vision/filetype"
RECIPIENT = Recipient(kind="file", key="0" * 32, wrapped="AAAA")


@dataclass(kw_only=True)
class MemoryPayload:
    """An object of a sealed model in memory, as a source would open it."""

    data: bytes
    reads: list[int] = field(default_factory=list)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.reads.append(offset)
        part = self.data[offset : offset + len(buffer)]
        if len(part) < len(buffer):
            raise TruncatedError("failed to read: too short")
        buffer[:] = part


def opened(data: bytes, length: int) -> MemoryPayload:
    """Open an object that must have `length` bytes, as every source does."""
    if len(data) < length:
        raise TruncatedError("failed to open: too short")
    if len(data) > length:
        raise TrailingData("failed to open: too long")
    return MemoryPayload(data=data)


@dataclass(kw_only=True)
class TinySeal:
    """A sealed model of tiny segments, its objects and its keys."""

    seal: Seal
    objects: list[bytes]
    plain: list[bytes]
    dek: bytes

    def keys(self) -> DataKeys:
        """Return the right keys."""
        return DataKeys.from_dek(Secret(self.dek), self.seal.manifest.seal_id)

    def entry(self, number: int) -> FileEntry:
        """Return one file of the manifest."""
        return self.seal.manifest.files[number]

    def open(
        self, number: int, data: bytes | None = None, *, seal: Seal | None = None, threads: int = 1
    ) -> bytes:
        """Decrypt an object, by default the right one, as file `number`."""
        seal = seal or self.seal
        entry = seal.manifest.files[number]
        length = TINY.ciphertext_length(entry.plaintext_length)
        out = bytearray(b"\xff" * entry.plaintext_length)
        decrypt_payload(
            seal=seal,
            entry=entry,
            payload=opened(self.objects[number] if data is None else data, length),
            keys=self.keys,
            out=memoryview(out),
            threads=threads,
            parameters=TINY,
        )
        return bytes(out)


def tiny_seal(
    plain: Sequence[bytes], *, dek: bytes | None = None, seal_id: bytes | None = None
) -> TinySeal:
    """Encrypt some files under tiny segments; nothing is signed."""
    dek, seal_id = dek or os.urandom(32), seal_id or os.urandom(32)
    keys = DataKeys.from_dek(Secret(dek), seal_id)
    entries, objects = [], []
    for number, content in enumerate(plain):
        context = payload_context(seal_id, number, len(plain), len(content))
        cipher = Cipher.start(keys.payload, context, TINY, os.urandom)
        entry, data = encrypt_tiny(number, content, cipher)
        entries.append(entry)
        objects.append(data)
    manifest = Manifest(
        model=MODEL,
        version="1",
        sequence=1,
        not_after=None,
        seal_id=seal_id,
        files=tuple(entries),
    )
    return TinySeal(seal=sealed(manifest, keys), objects=objects, plain=list(plain), dek=dek)


def encrypt_tiny(number: int, content: bytes, cipher: Cipher) -> tuple[FileEntry, bytes]:
    """Encrypt one file under tiny segments."""
    out = bytearray(TINY.ciphertext_length(len(content)))

    def write(offset: int, data: memoryview) -> None:
        out[offset : offset + len(data)] = data

    plain = Plaintext(name="a file", length=len(content), stream=io.BytesIO(content))
    written = encrypt_payload(plain, cipher, write, parameters=TINY, random=os.urandom, threads=1)
    entry = FileEntry(
        number=number,
        plaintext_length=len(content),
        header=written.header,
        digest=written.digest,
    )
    return entry, bytes(out)


def sealed(manifest: Manifest, keys: DataKeys) -> Seal:
    """Wrap a manifest into an unsigned seal with the right MAC."""
    payload = encode_manifest(manifest)
    kind = contract.MANIFEST_TYPE
    return Seal(
        manifest=manifest,
        envelope=Envelope(payload_type=kind, payload=payload, signatures=()),
        mac=keys.mac(kind, payload),
        recipients=(RECIPIENT,),
    )


def with_entry(seal: Seal, number: int, entry: FileEntry) -> Seal:
    """Return a seal whose manifest has another entry at `number`."""
    files = list(seal.manifest.files)
    files[number] = entry
    return replace(seal, manifest=replace(seal.manifest, files=tuple(files)))


@dataclass(kw_only=True)
class FolderSeal:
    """A sealed model in a folder, made by the library, and its data key."""

    seal: Seal
    folder: Path
    dek: bytes

    @property
    def text(self) -> bytes:
        """The bytes of `seal.json`."""
        return (self.folder / contract.SEAL_NAME).read_bytes()

    def keys(self) -> DataKeys:
        """Return the right keys."""
        return DataKeys.from_dek(Secret(self.dek), self.seal.manifest.seal_id)

    def open(self, number: int, *, threads: int = 2) -> bytes:
        """Decrypt one file."""
        entry = self.seal.manifest.files[number]
        data = (self.folder / entry.name).read_bytes()
        out = bytearray(entry.plaintext_length)
        decrypt_payload(
            seal=self.seal,
            entry=entry,
            payload=opened(data, entry.ciphertext_length),
            keys=self.keys,
            out=memoryview(out),
            threads=threads,
        )
        return bytes(out)


def seal_folder(
    output: Path,
    files: Mapping[str, bytes],
    *,
    signer: LocalSigner | None = None,
    model: str = MODEL,
    sequence: int = 1,
    threads: int = 2,
    wrap: Wrap = lambda *_: [RECIPIENT],
) -> FolderSeal:
    """Seal some files into a folder, and keep the data key."""
    kept = bytearray()

    def keep(dek: Secret, context: bytes) -> Sequence[Recipient]:
        kept[:] = dek.buffer
        return wrap(dek, context)

    seal = seal_files(
        files=plain_files(files),
        output=output,
        model=model,
        version="1",
        sequence=sequence,
        recipients_for=keep,
        signer=signer,
        threads=threads,
    )
    return FolderSeal(seal=seal, folder=output, dek=bytes(kept))


def plain_files(files: Mapping[str, bytes]) -> list[PlainFile]:
    """Describe files in memory for sealing."""
    return [
        PlainFile(path=path, role="other", length=len(content), open=partial(io.BytesIO, content))
        for path, content in files.items()
    ]


def edited(text: bytes, change: Callable[[Json], object]) -> bytes:
    """Return `seal.json` after a change to its JSON."""
    top = json.loads(text)
    change(top)
    return json.dumps(top).encode()


def with_payload(text: bytes, payload: bytes) -> bytes:
    """Return `seal.json` with other bytes as its manifest, and everything else as it was."""
    encoded = base64.b64encode(payload).decode()
    return edited(text, lambda top: top["envelope"].update(payload=encoded))


def with_manifest(text: bytes, change: Callable[[Json], object]) -> bytes:
    """Return `seal.json` after a change to its manifest's JSON."""
    manifest = manifest_of(text)
    change(manifest)
    return with_payload(text, json.dumps(manifest).encode())


def manifest_of(text: bytes) -> Json:
    """Return the manifest's JSON."""
    manifest: Json = json.loads(base64.b64decode(json.loads(text)["envelope"]["payload"]))
    return manifest
