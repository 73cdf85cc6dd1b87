"""A changed byte anywhere in a sealed model ends the real agent with its name; nothing comes out.

Every byte of the payloads is changed. The seal's bytes all go through the library and the command
line in the unit tests; here it is every `STRIDE`-th, or every one with `MODELSEAL_TEST_STRIDE=1`
(1,595 agents in 147 s on two processors, last on 2026-11-26: nothing was handed over that differs).
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from modelseal.keys.local import KeyFileProvider, generate_key_file
from support.agent_models import SealedModel, seal_model
from support.cli import environment

pytestmark = pytest.mark.e2e
STRIDE = int(os.environ.get("MODELSEAL_TEST_STRIDE", "17"))
HEADER = 74
SUPPORT = Path(__file__).resolve().parents[1]


class Run(NamedTuple):
    """What became of one changed byte."""

    name: str
    position: int
    code: int
    reason: str
    handed_over: bool


@pytest.fixture
def sealed(tmp_path: Path) -> SealedModel:
    """Return the smallest sealed model."""
    generate_key_file(tmp_path / "model.key")
    provider = KeyFileProvider(tmp_path / "model.key")
    return seal_model(tmp_path / "sealed", provider, files={"net.xml": b"<net/>"})


def agents(sealed: SealedModel, *names: str, stride: int = 1) -> list[Run]:
    """Run the agent's whole program once for each changed byte of the named files."""
    above = sealed.folder.parent
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-W", "error", "-m", "support.agent_mutations"),
            *map(str, (stride, sealed.folder, above / "model.key", sealed.signer, *names)),
        ],
        cwd=above,
        env=environment(above, PYTHONPATH=str(SUPPORT), TMPDIR=str(above)),
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    found = [Run(*each) for each in json.loads(done.stdout)]
    sizes = [(sealed.folder / name).stat().st_size for name in names]
    assert len(found) == sum(len(range(0, size, stride)) for size in sizes)
    return found


def test_every_changed_byte_of_a_payload_ends_the_agent_with_its_name(sealed: SealedModel) -> None:
    for run in agents(sealed, "p/0.floe", "p/1.floe"):
        header = run.position < HEADER
        expected = (81, "KeyCommitmentMismatch") if header else (82, "SegmentInvalid")
        assert (run.code, run.reason, run.handed_over) == (*expected, False), run


def test_a_changed_byte_of_a_seal_ends_the_agent_or_changes_nothing_that_was_signed(
    sealed: SealedModel,
) -> None:
    whole = (sealed.folder / "seal.json").read_bytes()
    hint = json.loads(whole)["envelope"]["signatures"][0]["keyid"].encode()
    begin = whole.index(hint)
    results = agents(sealed, "seal.json", stride=STRIDE)
    accepted = {run.position for run in results if run.handed_over}
    assert accepted <= set(range(begin, begin + len(hint))), "only the hint is not signed"
    refused = [run for run in results if run.position not in accepted]
    assert not [run for run in refused if not 20 <= run.code < 70]
    assert {run.reason for run in refused} >= {"HeaderInvalid", "SignatureInvalid"}
