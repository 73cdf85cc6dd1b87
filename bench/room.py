"""A made model and its seal in a temporary folder, for as long as a question is being asked."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from bench.models import write_dense_model
from modelseal import opening
from modelseal.envelope import DataKeys, PlainFile, Policy, Seal, seal_files
from modelseal.keys import KeyProvider, open_provider
from modelseal.keys.local import generate_key_file
from modelseal.sources import open_source

MODEL = "bench/dense"


@dataclass(frozen=True, kw_only=True)
class Room:
    """Where the model lies in the clear, and where sealed."""

    folder: Path
    plain: Path
    """The `.xml`."""
    sealed: Path
    key: Path

    @property
    def weights(self) -> Path:
        """The `.bin`, which is nearly everything."""
        return self.plain.with_suffix(".bin")

    @property
    def megabytes(self) -> int:
        """MiB of weights."""
        return self.weights.stat().st_size >> 20

    @property
    def provider(self) -> KeyProvider:
        """The key file's provider."""
        return open_provider(f"file:{self.key}")

    def read(self) -> tuple[Seal, DataKeys]:
        """Return the verified seal and its keys, so that only the payloads are left to open."""
        trust = opening.Trust(signers=(), allow_unsigned=True, policy=Policy(model=MODEL))
        seal = opening.read_manifest(open_source(str(self.sealed)), trust, datetime.now(UTC))
        return seal, opening.unwrap_keys(seal, self.provider, MODEL)

    def seal_into(self, output: Path) -> Seal:
        """Seal the plain model."""
        files = [
            PlainFile(
                path=path.name, role=role, length=path.stat().st_size, open=partial(_raw, path)
            )
            for path, role in ((self.plain, "model"), (self.weights, "weights"))
        ]
        provider = self.provider
        return seal_files(
            files=files,
            output=output,
            model=MODEL,
            version="1",
            recipients_for=lambda dek, context: [provider.wrap(dek, context)],
        )


def _raw(path: Path) -> BinaryIO:
    """Open a file unbuffered."""
    return cast("BinaryIO", path.open("rb", buffering=0))


@contextlib.contextmanager
def room(megabytes: int) -> Iterator[Room]:
    """Make a model of this many MiB and seal it."""
    with tempfile.TemporaryDirectory(prefix="modelseal-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        made = Room(
            folder=folder,
            plain=write_dense_model(folder / "dense.xml", megabytes=megabytes),
            sealed=folder / "dense.sealed",
            key=folder / "owner.key",
        )
        generate_key_file(made.key)
        made.seal_into(made.sealed)
        yield made
