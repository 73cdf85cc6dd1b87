"""A changed byte anywhere in a sealed model ends the real agent with its name; nothing comes out.

Every byte goes through the library and the command line in the unit tests; a process for each would
take minutes, so here it is every `STRIDE`-th, or every one with `MODELSEAL_TEST_STRIDE=1`.
"""

import contextlib
import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from modelseal.contract import Env
from modelseal.keys.local import KeyFileProvider, generate_key_file
from support.agent_models import SealedModel, seal_model
from support.agent_peer import Peer
from support.agent_process import AgentProcess

pytestmark = pytest.mark.e2e
STRIDE = int(os.environ.get("MODELSEAL_TEST_STRIDE", "41"))
HEADER = 74


@pytest.fixture
def sealed(tmp_path: Path) -> SealedModel:
    """Return the smallest sealed model."""
    generate_key_file(tmp_path / "model.key")
    provider = KeyFileProvider(tmp_path / "model.key")
    return seal_model(
        tmp_path / "sealed", provider, files={"net.xml": b"<net/>", "net.bin": bytes(32)}
    )


def end_of_agent(sealed: SealedModel, key: Path, folder: Path) -> tuple[int, str]:
    """Run the agent on a folder until it ends; returns exit code and reason."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environ = sealed.environ() | {
        Env.SOURCE: str(folder),
        Env.KEY: f"file:{key}",
        Env.SOCKET_FD: str(theirs.fileno()),
    }
    with theirs:
        agent = AgentProcess(folder, environ, descriptors=(theirs.fileno(),))
    with agent, Peer(ours) as peer:
        with contextlib.suppress(BrokenPipeError):
            peer.hello()
        code = agent.wait()
        assert peer.ended(), "no model was handed over"
        return code, agent.termination()["reason"]


@pytest.mark.parametrize("number", range(3))
def test_a_changed_byte_of_a_payload_ends_the_agent_with_its_name(
    sealed: SealedModel, tmp_path: Path, number: int
) -> None:
    length = (sealed.folder / f"p/{number}.floe").stat().st_size
    for position in range(number, length, STRIDE):
        folder = tmp_path / f"changed-{position}"
        shutil.copytree(sealed.folder, folder)
        path = folder / f"p/{number}.floe"
        data = bytearray(path.read_bytes())
        data[position] ^= 1 << position % 8
        path.write_bytes(data)
        header = position < HEADER
        expected = (81, "KeyCommitmentMismatch") if header else (82, "SegmentInvalid")
        assert end_of_agent(sealed, tmp_path / "model.key", folder) == expected, position


def test_a_changed_byte_of_a_seal_ends_the_agent_with_its_name(
    sealed: SealedModel, tmp_path: Path
) -> None:
    whole = (sealed.folder / "seal.json").read_bytes()
    hint = json.loads(whole)["envelope"]["signatures"][0]["keyid"].encode()
    unsigned = range(whole.index(hint), whole.index(hint) + len(hint))
    reasons = set()
    for position in (each for each in range(0, len(whole), STRIDE) if each not in unsigned):
        folder = tmp_path / f"changed-{position}"
        shutil.copytree(sealed.folder, folder)
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        (folder / "seal.json").write_bytes(data)
        code, reason = end_of_agent(sealed, tmp_path / "model.key", folder)
        assert 20 <= code < 70, (position, reason)
        reasons.add(reason)
    assert reasons >= {"HeaderInvalid", "SignatureInvalid"}
