"""Memory is touched while the key is waited for, and no longer where writing costs less."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelseal import opening
from modelseal.contract import Stage
from modelseal.envelope import DataKeys, Policy
from modelseal.memory import PAGE, PlaintextMemory
from modelseal.sources import open_source
from support.seals import MODEL, seal_folder

CONTENT = {"model.bin": bytes(range(256)) * 500}


@pytest.mark.parametrize("well", [True, False])
def test_memory_is_touched_until_the_keys_arrive_and_further_only_where_writing_is_no_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, well: bool
) -> None:
    made = seal_folder(tmp_path / "sealed", CONTENT)
    source = open_source(str(made.folder))
    seal = opening.read_manifest(
        source,
        opening.Trust(signers=(), allow_unsigned=True, policy=Policy(model=MODEL)),
        datetime.now(UTC),
    )
    touching, decrypting, touched = threading.Event(), threading.Event(), []

    def prefault(_: PlaintextMemory, offset: int = 0, length: int | None = None) -> None:
        touched.append(offset)
        touching.set()
        assert decrypting.wait(30)

    def keys() -> DataKeys:
        assert touching.wait(30)
        return made.keys()

    def on_stage(stage: Stage) -> None:
        if stage is Stage.DECRYPT:
            decrypting.set()

    monkeypatch.setattr(opening, "_PREFAULT_STEP", PAGE)
    monkeypatch.setattr(PlaintextMemory, "prefault", prefault)
    monkeypatch.setattr(PlaintextMemory, "writes_well", well)
    with PlaintextMemory(opening.plan_sizes(seal)) as memory:
        (file,) = opening.decrypt_all(seal, source, keys, memory, on_stage=on_stage).entries
        with memory.view[file.offset : file.offset + file.length] as plain:
            assert plain == CONTENT["model.bin"]
        assert len(touched) == (1 if well else len(memory) // PAGE)
