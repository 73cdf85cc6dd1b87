"""Sealing: model files become a folder of ciphertext, or nothing at all."""

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from modelseal import contract
from modelseal.envelope.derive import DEK_LENGTH, DataKeys, kek_context, payload_context
from modelseal.envelope.dsse import pre_authentication
from modelseal.envelope.encrypting import Plaintext, Written, encrypt_payload, reading
from modelseal.envelope.floe import GCM256_IV256_1M, Cipher
from modelseal.envelope.index import ROLES, Index, IndexEntry, encode_index, path_problem
from modelseal.envelope.manifest import (
    MAX_FILE_LENGTH,
    SEAL_ID_LENGTH,
    Envelope,
    FileEntry,
    Manifest,
    Seal,
    Signature,
    encode_manifest,
    encode_seal,
    parse_seal,
    valid_model_name,
    valid_version,
)
from modelseal.envelope.output import NewFolder
from modelseal.envelope.public_key import parse_signer
from modelseal.envelope.recipients import Recipient
from modelseal.envelope.signing import verify_signature
from modelseal.envelope.strict import MAX_INTEGER
from modelseal.envelope.workers import Progress, default_threads
from modelseal.errors import LimitExceeded, NotAModel, SettingsError, shown
from modelseal.secret import Secret

Wrap = Callable[[Secret, bytes], Sequence[Recipient]]
"""Wraps a data key, bound to a KEK context, for everybody who may open the model."""


class Signer(Protocol):
    """What signs the manifest; every `keys.interface.Signer` fits."""

    def sign(self, message: bytes) -> bytes:
        """Sign a pre-authentication encoding."""

    @property
    def public(self) -> str:
        """The public key as a signer URI."""


@dataclass(frozen=True, kw_only=True)
class PlainFile:
    """One file of a model before it is sealed."""

    path: str
    """Relative, with `/` between its parts; what the index will say."""
    role: str
    """`model`, `weights` or `other`."""
    length: int
    open: Callable[[], BinaryIO]
    """Returns a stream of exactly `length` bytes; called once, closed by the caller."""


def seal_files(
    *,
    files: Sequence[PlainFile],
    output: Path,
    model: str,
    version: str,
    sequence: int = 0,
    not_after: datetime | None = None,
    recipients_for: Wrap,
    signer: Signer | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Seal:
    """Seal files, in load order, into a new folder, which appears whole or not at all.

    The data key is made here, wrapped before anything is encrypted, and wiped at the end.

    Args:
        files: at least one; their paths must be safe and distinct.
        output: the folder to make; must not exist.
        model: `OWNER/NAME`.
        version: text such as `1.2`, for people.
        sequence: grows with every release, so that readers can refuse older ones.
        not_after: aware of its time zone, in whole seconds; readers refuse the model after it.
        recipients_for: wraps the data key.
        signer: signs the manifest.
        threads: at most so many at once; by default one for each processor, at most eight.
        progress: called with plaintext bytes as they are done.

    Raises:
        SettingsError: an argument is not well-formed.
        NotAModel: there is no file, or a path is unsafe.
        LimitExceeded: it would be beyond the bounds of the format.
        InputUnreadable: a file cannot be read, or changed its length meanwhile.
        OutputFailed: the folder cannot be made; nothing was left.
        KeyServiceError, KeyRefused: the data key could not be wrapped, or the manifest signed.

    """
    _check_identity(model, version, sequence, not_after)
    _check_files(files)
    identity = Manifest(
        model=model,
        version=version,
        sequence=sequence,
        not_after=not_after,
        seal_id=os.urandom(SEAL_ID_LENGTH),
        files=(),
    )
    with NewFolder(output) as folder:
        writing = _Writing(
            folder=folder,
            seal_id=identity.seal_id,
            count=len(files) + 1,
            threads=threads or default_threads(),
            progress=progress,
        )
        seal = _seal_into(writing, identity, files, recipients_for, signer)
        folder.publish()
    return seal


def _seal_into(
    writing: "_Writing",
    identity: Manifest,
    files: Sequence[PlainFile],
    recipients_for: Wrap,
    signer: Signer | None,
) -> Seal:
    seal_id = identity.seal_id
    with Secret(os.urandom(DEK_LENGTH)) as dek, DataKeys.from_dek(dek, seal_id) as keys:
        recipients = tuple(recipients_for(dek, kek_context(identity.model, seal_id)))
        manifest = replace(identity, files=_encrypt_all(writing, keys, files))
        seal = _signed(manifest, keys, signer, recipients)
    with writing.folder.create(contract.SEAL_NAME) as write:
        write(0, memoryview(encode_seal(seal)))
    return seal


def _check_identity(model: str, version: str, sequence: int, not_after: datetime | None) -> None:
    if not valid_model_name(model):
        raise SettingsError(
            f"failed to seal: the model name {shown(model)} is not OWNER/NAME",
            hint="lower-case letters, digits, dots and dashes, such as vision/filetype",
        )
    if not valid_version(version):
        raise SettingsError(
            f"failed to seal: the version {shown(version)} is not well-formed",
            hint="letters, digits and . _ + - only, such as 2026-11-22.1",
        )
    if not 0 <= sequence <= MAX_INTEGER:
        raise SettingsError(f"failed to seal: the sequence is not from 0 to {MAX_INTEGER}")
    if not_after is not None and (not_after.tzinfo is None or not_after.microsecond):
        raise SettingsError("failed to seal: the expiry needs a time zone and whole seconds")


def _check_files(files: Sequence[PlainFile]) -> None:
    if not files:
        raise NotAModel("failed to seal: there is no file")
    if len(files) >= contract.MAX_FILES:
        raise LimitExceeded(
            f"failed to seal: {len(files)} files are more than {contract.MAX_FILES - 1}",
            hint="pack small files into an archive",
        )
    problem = path_problem([file.path for file in files])
    if problem:
        raise NotAModel(f"failed to seal: {problem}", hint="rename the file")
    for file in files:
        if file.role not in ROLES:
            raise SettingsError(f"failed to seal: the role {shown(file.role)} is not known")
        if not 0 <= file.length <= MAX_FILE_LENGTH:
            raise LimitExceeded(f"failed to seal {shown(file.path)}: it is longer than 1 TiB")


@dataclass(frozen=True, kw_only=True)
class _Writing:
    """What does not change while the payloads of one model are written."""

    folder: NewFolder
    seal_id: bytes
    count: int
    threads: int
    progress: Progress | None

    def encrypt(self, number: int, keys: DataKeys, plain: Plaintext) -> Written:
        """Write one payload."""
        context = payload_context(self.seal_id, number, self.count, plain.length)
        cipher = Cipher.start(keys.payload, context, GCM256_IV256_1M, os.urandom)
        try:
            with self.folder.create(f"p/{number}.floe") as write:
                return encrypt_payload(
                    plain,
                    cipher,
                    write,
                    parameters=GCM256_IV256_1M,
                    random=os.urandom,
                    threads=self.threads,
                    progress=self.progress if number else None,
                )
        finally:
            cipher.wipe()


def _encrypt_all(
    writing: _Writing, keys: DataKeys, files: Sequence[PlainFile]
) -> tuple[FileEntry, ...]:
    """Encrypt all files and then the index, which is file 0."""
    entries = []
    indexed = []
    for number, file in enumerate(files, start=1):
        name = shown(file.path)
        with reading(name):
            stream = file.open()
        with stream:
            plain = Plaintext(name=name, length=file.length, stream=stream)
            written = writing.encrypt(number, keys, plain)
        entries.append(_entry(number, file.length, written))
        indexed.append(
            IndexEntry(number=number, path=file.path, role=file.role, sha256=written.sha256)
        )
    index = encode_index(Index(entries=tuple(indexed)))
    plain = Plaintext(name="the index", length=len(index), stream=io.BytesIO(index))
    return (_entry(0, len(index), writing.encrypt(0, keys, plain)), *entries)


def _entry(number: int, length: int, written: Written) -> FileEntry:
    return FileEntry(
        number=number, plaintext_length=length, header=written.header, digest=written.digest
    )


def _signed(
    manifest: Manifest, keys: DataKeys, signer: Signer | None, recipients: tuple[Recipient, ...]
) -> Seal:
    """Sign a manifest, and read the result as every reader will."""
    payload = encode_manifest(manifest)
    kind = contract.MANIFEST_TYPE
    signatures: tuple[Signature, ...] = ()
    pinned = []
    if signer is not None:
        pinned = [parse_signer(signer.public)]
        sig = signer.sign(pre_authentication(kind, payload))
        signatures = (Signature(keyid=pinned[0].keyid, sig=sig),)
    seal = Seal(
        manifest=manifest,
        envelope=Envelope(payload_type=kind, payload=payload, signatures=signatures),
        mac=keys.mac(kind, payload),
        recipients=recipients,
    )
    verify_signature(seal, pinned, allow_unsigned=signer is None)
    return parse_seal(encode_seal(seal))
