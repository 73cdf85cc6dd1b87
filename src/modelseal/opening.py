"""The verification order, once, for the agent, the command line and applications.

docs/format.md, section 9: strict parse, signature, policy, login and unwrap, manifest MAC, lengths,
header, every segment and digest. Each step passes before the next one costs anything, and a failure
is raised only when everything before it has passed.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from modelseal import cgroups, handover
from modelseal.contract import MAX_INDEX_BYTES, Stage
from modelseal.envelope import (
    DataKeys,
    Index,
    Policy,
    PublicKey,
    Recipient,
    Seal,
    check_policy,
    decrypt_payload,
    kek_context,
    parse_index,
    parse_seal,
    verify_mac,
    verify_signature,
)
from modelseal.envelope.payload import Store
from modelseal.envelope.workers import Progress
from modelseal.errors import LimitExceeded, ModelTooLarge, NoRecipient, OutOfMemory
from modelseal.keys.interface import KeyProvider
from modelseal.memory import PlaintextMemory, page_aligned
from modelseal.sources.interface import Payload, Source

OnStage = Callable[[Stage], None]
"""Told each stage as it begins."""
_PREFAULT_STEP: Final = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Whom the reader trusts, and what it wants."""

    signers: tuple[PublicKey, ...]
    allow_unsigned: bool
    policy: Policy


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where each file lies in the one region that holds the model, in load order."""

    entries: tuple[handover.File, ...]
    size: int


def _quiet(_: Stage) -> None:
    """Tell nobody."""


def read_manifest(
    source: Source, trust: Trust, now: datetime, *, on_stage: OnStage = _quiet
) -> Seal:
    """Read `seal.json` once; check its form, its signature and the policy; needs no key.

    Raises:
        SourceError, HeaderError, SignatureInvalid, PolicyViolation: as the stages say.

    """
    on_stage(Stage.MANIFEST)
    seal = parse_seal(source.read_seal())
    on_stage(Stage.SIGNATURE)
    verify_signature(seal, trust.signers, allow_unsigned=trust.allow_unsigned)
    on_stage(Stage.POLICY)
    check_policy(seal, trust.policy, now)
    return seal


def choose_recipient(seal: Seal, provider: KeyProvider) -> Recipient:
    """Return the recipient that equals the provider's configuration.

    Raises:
        NoRecipient: there is none.

    """
    for recipient in seal.recipients:
        if provider.matches(recipient):
            return recipient
    raise NoRecipient(f"failed to open the model: no recipient is for the {provider.kind} key")


def unwrap_keys(
    seal: Seal, provider: KeyProvider, model: str, *, on_stage: OnStage = _quiet
) -> DataKeys:
    """Log in, unwrap the data key, and check that the manifest was made with it.

    `model` is the reader's own wish, never the file's claim: the key is bound to it.

    Raises:
        KeyServiceError, KeyRefused, UnwrapError: as the provider and the MAC say.

    """
    recipient = choose_recipient(seal, provider)
    on_stage(Stage.LOGIN)
    provider.login()
    on_stage(Stage.UNWRAP)
    seal_id = seal.manifest.seal_id
    with provider.unwrap(recipient, kek_context(model, seal_id)) as dek:
        keys = DataKeys.from_dek(dek, seal_id)
    try:
        verify_mac(seal, keys)
    except BaseException:
        keys.wipe()
        raise
    return keys


def plan_sizes(seal: Seal) -> int:
    """Return the bytes of memory that the model needs, whole pages for each file; needs no key."""
    return sum(page_aligned(entry.plaintext_length) for entry in seal.manifest.files[1:])


def check_room(size: int, *, declared: int | None) -> None:
    """Refuse a model for which there is no room, before anything is allocated.

    Args:
        size: bytes, as `plan_sizes` says.
        declared: bytes that the model may have at most, or `None`.

    Raises:
        ModelTooLarge: larger than declared, or than the container may ever have.
        OutOfMemory: larger than what is free now.

    """
    if declared is not None and size > declared:
        raise ModelTooLarge(
            f"failed to make room: the model has {size} bytes, {declared} are declared",
            hint=f"declare a model size of {size} bytes",
        )
    limit = cgroups.memory_limit()
    if limit is not None and size > limit:
        raise ModelTooLarge(
            f"failed to make room: the model has {size} bytes, the memory limit is {limit}",
            hint=f"raise the memory limit above {size} bytes",
        )
    free = cgroups.memory_available()
    if size > free:
        raise OutOfMemory(
            f"failed to make room: the model has {size} bytes, {free} are free",
            hint="free memory, or use a machine with more",
        )


def open_index(seal: Seal, source: Source, keys: Callable[[], DataKeys]) -> Index:
    """Decrypt the encrypted index.

    Raises:
        PayloadError: it is damaged, altered, or names an unsafe path.

    """
    entry = seal.manifest.files[0]
    if entry.plaintext_length > MAX_INDEX_BYTES:
        raise LimitExceeded(f"failed to read the index: longer than {MAX_INDEX_BYTES} bytes")
    data = bytearray(entry.plaintext_length)
    with (
        _opened(source, entry.name, entry.ciphertext_length, keys) as payload,
        memoryview(data) as out,
    ):
        decrypt_payload(seal=seal, entry=entry, payload=payload, keys=keys, out=out, threads=1)
    return parse_index(bytes(data), seal)


def decrypt_all(
    seal: Seal,
    source: Source,
    keys: Callable[[], DataKeys],
    memory: PlaintextMemory,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    on_stage: OnStage = _quiet,
) -> Placement:
    """Fetch and decrypt every file into `memory`, which is wiped if anything fails.

    `keys` may wait for the key service: until it returns, ciphertext is fetched and memory touched.

    Raises:
        ModelsealError: what failed first, in the order of the stages.

    """
    enough = threading.Event()
    ahead = threading.Thread(target=_prefault, args=(memory, enough), name="prefault")
    write = memory.write if memory.writes_well else None
    try:
        with contextlib.suppress(RuntimeError):  # no room for another stack: it only saves time
            ahead.start()
        on_stage(Stage.FETCH)
        index = open_index(seal, source, keys)
        if write is not None:
            enough.set()
        on_stage(Stage.DECRYPT)
        placement = place(seal, index)
        for file, each in zip(placement.entries, index.entries, strict=True):
            entry = seal.manifest.files[each.number]
            with _opened(source, entry.name, entry.ciphertext_length, keys) as payload:
                decrypt_payload(
                    seal=seal,
                    entry=entry,
                    payload=payload,
                    keys=keys,
                    out=memory.view[file.offset : file.offset + file.length],
                    store=_from(write, file.offset),
                    threads=threads,
                    progress=progress,
                )
    except BaseException as error:
        enough.set()
        _finish(ahead)
        memory.wipe()
        if isinstance(error, MemoryError):
            raise OutOfMemory("failed to open the model: there is no memory beside it") from error
        raise
    _finish(ahead)
    return placement


def place(seal: Seal, index: Index) -> Placement:
    """Lay the files out one after another, each from a page's start."""
    files = []
    offset = 0
    for each in index.entries:
        length = seal.manifest.files[each.number].plaintext_length
        files.append(handover.File(path=each.path, role=each.role, offset=offset, length=length))
        offset += page_aligned(length)
    return Placement(entries=tuple(files), size=offset)


@contextlib.contextmanager
def _opened(
    source: Source, name: str, length: int, keys: Callable[[], DataKeys]
) -> Iterator[Payload]:
    """Open an object; where that fails, a failing key comes first."""
    try:
        payload = source.open_payload(name, length)
    except BaseException:
        keys()
        raise
    with contextlib.closing(payload):
        yield payload


def _finish(thread: threading.Thread) -> None:
    """Wait for a thread, if it could be started."""
    if thread.ident is not None:
        thread.join()


def _from(write: Store | None, place: int) -> Store | None:
    """Return what writes a file that begins at `place`."""
    return None if write is None else lambda offset, data: write(place + offset, data)


def _prefault(memory: PlaintextMemory, enough: threading.Event) -> None:
    """Touch the memory while key and network are waited for."""
    with contextlib.suppress(OutOfMemory):
        for start in range(0, len(memory), _PREFAULT_STEP):
            if enough.is_set():
                return
            memory.prefault(start, _PREFAULT_STEP)
