"""`modelseal reseal`: the same model under a new data key, for when the old one leaked."""

import contextlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, BinaryIO, Final, cast

import typer

from modelseal import hardening, opening
from modelseal.cli import options as opt
from modelseal.cli import progress
from modelseal.cli.environment import open_key, open_signing_key
from modelseal.cli.recipients import refuse_weakest, wrap_for
from modelseal.cli.seal import Output, Sign, show_made
from modelseal.cli.source import open_sealed
from modelseal.cli.trust import trust
from modelseal.envelope import PlainFile, Seal, seal_files
from modelseal.keys import KeyProvider
from modelseal.memory import PlaintextMemory
from modelseal.sources import Source

EXAMPLES: Final = """\
modelseal reseal old.sealed -o new.sealed --model me/model --key vault:transit/models \\
    --signer file:release.pub --sign release
"""

To = Annotated[
    list[str] | None,
    typer.Option("--to", metavar="PROVIDER", help="Who may open the new one; --key if left out."),
]
Version = Annotated[
    str | None, typer.Option("--version", metavar="V", help="The new version; the old one's.")
]
Sequence = Annotated[
    int | None,
    typer.Option("--sequence", metavar="N", min=0, help="The new sequence; the old one's and 1."),
]


def command(  # noqa: PLR0913 - one argument for each option
    sealed: opt.Sealed,
    *,
    output: Output,
    model: opt.Model,
    key: opt.Key,
    to: To = None,
    sign: Sign = None,
    signer: opt.Signers = None,
    version: Version = None,
    sequence: Sequence = None,
    not_after: opt.NotAfter = None,
    source_ca: opt.SourceCa = None,
    source_token_file: opt.SourceToken = None,
    allow_weakest: opt.AllowWeakest = False,
    json: opt.Json = False,
) -> None:
    """Seal a sealed model anew, with a new data key.

    For a data key that leaked, which rewrapping does not change. The old model is verified and
    opened into memory that no core dump shows, and sealed from there: no plaintext touches a disk.
    Its sequence grows by one, so that pinning --min-sequence to it shuts the old one out.
    """
    hardening.harden(allow_swap=True)
    providers = [open_key(uri, new=uri != key) for uri in to or [key]]
    refuse_weakest([provider.kind for provider in providers], allowed=allow_weakest)
    signing = open_signing_key(sign) if sign else None
    with open_sealed(sealed, ca_file=source_ca, token_file=source_token_file) as source:
        demands = trust(signer, model=model, digest=None, min_sequence=None)
        old = opening.read_manifest(source, demands, datetime.now(UTC))
        with _opened(old, source, open_key(key), model) as files:
            ends = not_after.replace(tzinfo=UTC) if not_after else old.manifest.not_after
            with progress.in_bytes("sealing", sum(file.length for file in files)) as advance:
                made = seal_files(
                    files=files,
                    output=output,
                    model=model,
                    version=version or old.manifest.version,
                    sequence=old.manifest.sequence + 1 if sequence is None else sequence,
                    not_after=ends,
                    recipients_for=wrap_for(providers),
                    signer=signing,
                    progress=advance,
                )
    show_made(made, output, json=json)


@contextlib.contextmanager
def _opened(
    seal: Seal, source: Source, provider: KeyProvider, model: str
) -> Iterator[list[PlainFile]]:
    """Decrypt into memory; yields the files in it, and wipes it."""
    size = opening.plan_sizes(seal)
    opening.check_room(size, declared=None)
    with opening.unwrap_keys(seal, provider, model) as keys:
        memory = PlaintextMemory(size, name=None)
        try:
            placement = opening.decrypt_all(seal, source, lambda: keys, memory)
            yield [
                PlainFile(
                    path=file.path,
                    role=file.role,
                    length=file.length,
                    open=_opener(memory.view[file.offset : file.offset + file.length]),
                )
                for file in placement.entries
            ]
        finally:
            memory.release()


def _opener(view: memoryview) -> Any:
    return lambda: cast("BinaryIO", _View(view))


class _View(io.RawIOBase):
    """Memory as a stream, without a copy of it."""

    def __init__(self, view: memoryview) -> None:
        super().__init__()
        self._rest = view

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as there is something left."""
        with memoryview(buffer) as target:
            count = min(len(target), len(self._rest))
            target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """Let go of the memory, so that it can be released."""
        self._rest.release()
        super().close()
