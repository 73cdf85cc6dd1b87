"""A sealed model in an application's own process: `modelseal.open`.

The same verification order, errors and wiping as the agent's, without a second process: key,
ciphertext and plaintext share the application's address space (docs/threat-model.md).
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from modelseal import handover, opening
from modelseal.contract import Env
from modelseal.envelope import Policy, Seal, parse_signer
from modelseal.errors import InputUnreadable, ModelClosed, RequestInvalid, SettingsError, shown
from modelseal.keys import KeyProvider, VaultSettings, open_provider
from modelseal.memory import PlaintextMemory
from modelseal.secret import Secret
from modelseal.sources import Source, open_source

if TYPE_CHECKING:
    from modelseal.engine import LoadedModel, TensorSpec
    from modelseal.engine.tensors import Array

Passphrase = Callable[[], Secret]
_MAX_PASSPHRASE: Final = 1024


def open(  # noqa: A001 - `modelseal.open`, as `gzip.open`
    sealed: str | Path,
    *,
    key: str,
    model: str,
    signers: Sequence[str] = (),
    allow_unsigned: bool = False,
    digest: str | None = None,
    min_sequence: int | None = None,
    vault: VaultSettings | None = None,
    passphrase: Passphrase | None = None,
    threads: int | None = None,
) -> "SealedModel":
    """Open a sealed model into memory of this process.

    Args:
        sealed: a folder, or an http(s) address.
        key: a key URI: `file:PATH`, `passphrase:`, `vault:MOUNT/KEY`, `vault-kv:MOUNT/PATH#FIELD`.
        model: the model that is wanted, `OWNER/NAME`; the file must be signed for this name.
        signers: public keys, one of which must have signed: `ed25519:...`, `file:PATH.pub`.
        allow_unsigned: accept a model without a pinned signer; then only the key vouches for it.
        digest: the one digest to accept, `sha256:...`.
        min_sequence: the lowest sequence to accept.
        vault: how to reach the key service, for `vault:` and `vault-kv:`.
        passphrase: returns the passphrase; by default it is read from the file that
            `MODELSEAL_PASSPHRASE_FILE` names.
        threads: how many threads decrypt; by default one for each processor, at most eight.

    Raises:
        ModelsealError: the first check that failed, in the order of docs/format.md, section 9;
            nothing is left in memory.

    """
    if not signers and not allow_unsigned:
        raise SettingsError(
            "failed to open the model: no signer is pinned",
            hint="pass signers=[...], or allow_unsigned=True to rely on the key alone",
        )
    trust = opening.Trust(
        signers=tuple(parse_signer(each) for each in signers),
        allow_unsigned=allow_unsigned,
        policy=Policy(model=model, digest=digest, min_sequence=min_sequence),
    )
    provider = open_provider(key, vault=vault, passphrase=passphrase or _passphrase_from_file)
    source = open_source(str(sealed))
    try:
        return _open(source, trust, provider, threads)
    finally:
        source.close()


class SealedModel:
    """An opened model; leaving the `with` block closes its compiled models and wipes its memory.

    Afterwards every call raises `ModelClosed`, and views that `read` returned hold zeros at best:
    do not keep them.
    """

    def __init__(self, seal: Seal, placement: opening.Placement, memory: PlaintextMemory) -> None:
        self.model: Final = seal.manifest.model
        self.version: Final = seal.manifest.version
        self.digest: Final = seal.digest
        self._files: Final = {file.path: file for file in placement.entries}
        self._lock: Final = threading.Lock()
        self._memory: PlaintextMemory | None = memory
        self._holders: list[LoadedModel] = []
        self._readers = 1
        self._closed = False

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of the model's files, in load order."""
        return tuple(self._files)

    def read(self, path: str) -> memoryview:
        """Return one file's content, read-only, without a copy; valid until the model is closed.

        Raises:
            ModelClosed: the model was closed.
            KeyError: there is no such file.

        """
        with self._lock:
            return self._view(self._files[path])

    def compile_model(
        self,
        core: Any = None,
        device: str = "CPU",
        config: Mapping[str, Any] | None = None,
        *,
        entry: str | None = None,
    ) -> "CompiledModel":
        """Compile the model out of this memory, without a copy of the weights.

        Args:
            core: an `openvino.Core`; by default a new one.
            device: an OpenVINO device, or several separated by commas in order of preference.
            config: OpenVINO properties; those that would write to a disk are refused.
            entry: the model's path, where there are several.

        Raises:
            ModelClosed: the model was closed.
            DeviceUnavailable, ModelLoadFailed: OpenVINO does not take it.

        """
        from modelseal.engine import LoadedModel  # noqa: PLC0415 - opening needs no OpenVINO

        with self._lock:
            views = {path: self._view(file) for path, file in self._files.items()}
            self._readers += 1
        loaded = LoadedModel.load(
            views,
            release=self._leave,
            devices=tuple(device.split(",")),
            config=config,
            hint=None if config and "PERFORMANCE_HINT" in config else "LATENCY",
            entry=entry,
            core=core,
        )
        self._hold(loaded)
        return CompiledModel(loaded)

    def close(self) -> None:
        """Close every compiled model, waiting for what runs, then wipe the memory; idempotent."""
        with self._lock:
            holders, self._holders = self._holders, []
            closed, self._closed = self._closed, True
        for loaded in holders:
            loaded.close()
        if not closed:
            self._leave()

    def _hold(self, loaded: "LoadedModel") -> None:
        """Remember what `close` has to close, unless it was called meanwhile."""
        with self._lock:
            late = self._closed
            if not late:
                self._holders.append(loaded)
        if late:
            loaded.close()
            raise ModelClosed("failed to use the model: it was closed")

    def _view(self, file: handover.File) -> memoryview:
        if self._closed or self._memory is None:
            raise ModelClosed("failed to use the model: it was closed")
        return self._memory.view[file.offset : file.offset + file.length].toreadonly()

    def _leave(self) -> None:
        """Count one reader less; the last one wipes, so that nobody computes with zeros."""
        with self._lock:
            self._readers -= 1
            memory, last = self._memory, self._readers == 0
            if last:
                self._memory = None
        if last and memory is not None:
            memory.wipe()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class CompiledModel:
    """A compiled model that owns its buffers and requests; may be called from any thread."""

    def __init__(self, loaded: "LoadedModel") -> None:
        self._loaded: Final = loaded

    @property
    def inputs(self) -> "tuple[TensorSpec, ...]":
        """The model's inputs: name, datatype and shape."""
        return self._loaded.inputs

    @property
    def outputs(self) -> "tuple[TensorSpec, ...]":
        """The model's outputs: name, datatype and shape."""
        return self._loaded.outputs

    @property
    def device(self) -> str:
        """The device that took the model."""
        return self._loaded.device

    def __call__(
        self, inputs: "Mapping[str, Array] | Sequence[Array] | Array"
    ) -> "dict[str, Array]":
        """Infer: arrays by input name, or one array, or several in the model's order.

        Returns:
            Copies of the outputs by name.

        Raises:
            ModelClosed: the sealed model was closed.
            RequestInvalid: an input is missing, unknown or does not fit.

        """
        if self._loaded.closed:
            raise ModelClosed("failed to ask the model: it was closed")
        return self._loaded.infer(self._named(inputs))

    def _named(
        self, inputs: "Mapping[str, Array] | Sequence[Array] | Array"
    ) -> "Mapping[str, Array]":
        if isinstance(inputs, Mapping):
            return inputs
        arrays = inputs if isinstance(inputs, list | tuple) else [inputs]
        names = [spec.name for spec in self._loaded.inputs]
        if len(arrays) != len(names):
            raise RequestInvalid(f"failed to ask the model: it has {len(names)} inputs")
        return dict(zip(names, arrays, strict=True))


def _open(
    source: Source, trust: opening.Trust, provider: KeyProvider, threads: int | None
) -> SealedModel:
    seal = opening.read_manifest(source, trust, datetime.now(UTC))
    size = opening.plan_sizes(seal)
    opening.check_room(size, declared=None)
    with opening.unwrap_keys(seal, provider, trust.policy.model) as keys:
        memory = PlaintextMemory(size, name=None)
        try:
            placement = opening.decrypt_all(seal, source, lambda: keys, memory, threads=threads)
            memory.seal()
        except BaseException:
            memory.release()
            raise
    return SealedModel(seal, placement, memory)


def _passphrase_from_file() -> Secret:
    name = os.environ.get(Env.PASSPHRASE_FILE)
    if not name:
        raise SettingsError(
            "failed to open the model: there is no passphrase",
            hint=f"pass passphrase=..., or let {Env.PASSPHRASE_FILE} name a file",
        )
    try:
        with Path(name).open("rb", buffering=0) as file:
            line = file.read(_MAX_PASSPHRASE).split(b"\n", 1)[0].rstrip(b"\r")
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise InputUnreadable(f"failed to read {shown(name)}: {reason}") from None
    if not line:
        raise SettingsError(f"failed to read the passphrase: {shown(name)} begins with no text")
    return Secret(line)
