"""Small sealed models for tests of the agent."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from modelseal.contract import Env
from modelseal.envelope import LocalSigner, PlainFile, Seal, seal_files
from modelseal.envelope.recipients import Recipient
from modelseal.keys.interface import KeyProvider
from modelseal.secret import Secret

MODEL: Final = "vision/filetype"
WEIGHTS: Final = bytes(range(256)) * 12288  # three segments
FILES: Final = {"net.xml": b"<net name='plain'/>" * 50, "net.bin": WEIGHTS, "note/none": b""}
SOON: Final = timedelta(seconds=12)
"""When a seal ends that has to be served before, by programs that a busy machine starts."""
_ROLES: Final = {".xml": "model", ".bin": "weights"}


@dataclass(frozen=True, kw_only=True)
class SealedModel:
    """A sealed model on a disk, and what its user has to know."""

    folder: Path
    signer: str
    seal: Seal

    def environ(self) -> dict[Env, str]:
        """Return the agent's variables for it, but for the key."""
        return {Env.MODEL: MODEL, Env.SOURCE: str(self.folder), Env.SIGNERS: self.signer}


def seal_model(
    folder: Path,
    *providers: KeyProvider,
    files: Mapping[str, bytes] = FILES,
    model: str = MODEL,
    not_after: datetime | None = None,
) -> SealedModel:
    """Seal `files` for every provider, signed with a new key that lies beside the folder."""
    signer = LocalSigner.generate(folder.with_suffix(".key"))

    def recipients(dek: Secret, context: bytes) -> list[Recipient]:
        return [provider.wrap(dek, context) for provider in providers]

    seal = seal_files(
        files=[_plain(path, content) for path, content in files.items()],
        output=folder,
        model=model,
        version="1.2",
        sequence=7,
        not_after=not_after,
        recipients_for=recipients,
        signer=signer,
    )
    return SealedModel(folder=folder, signer=signer.public, seal=seal)


def seal_ending(folder: Path, provider: KeyProvider, within: timedelta = SOON) -> SealedModel:
    """Seal `files` as what may be used so long, to the second below."""
    end = (datetime.now(UTC) + within).replace(microsecond=0)
    return seal_model(folder, provider, not_after=end)


def _plain(path: str, content: bytes) -> PlainFile:
    role = _ROLES.get(Path(path).suffix, "other")
    return PlainFile(path=path, role=role, length=len(content), open=lambda: io.BytesIO(content))
