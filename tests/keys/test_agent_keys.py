"""The real agent in front of a key service that refuses, lies or is away: nothing is delivered."""

import base64
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelseal.contract import Env
from modelseal.errors import ManifestMacMismatch
from modelseal.keys import open_provider
from support import fault_proxy as faults
from support.agent_models import SealedModel, seal_model
from support.agent_process import AgentProcess
from support.fault_proxy import Fault, FaultProxy
from support.openbao import KeyService

pytestmark = [pytest.mark.keys, pytest.mark.e2e]
MARK = "body-that-must-not-be-shown"


class Scene:
    """A sealed model, an agent's settings for it, and the memory that it would deliver into."""

    def __init__(self, proxy: FaultProxy, folder: Path, volume: Path) -> None:
        self.proxy, self.folder, self.volume = proxy, folder, volume
        self.service: KeyService = proxy.service
        self.mount = self.service.transit()
        uri = f"vault:{self.mount}/models"
        self.sealed: SealedModel = seal_model(
            folder / "sealed", open_provider(uri, vault=self.service.settings())
        )
        (folder / "token").write_text(self.service.server.root_token)
        self.environ: dict[Env, str] = self.sealed.environ() | {
            Env.KEY: uri,
            Env.VAULT_ADDRESS: proxy.address,
            Env.VAULT_CA_FILE: str(self.service.ca_file),
            Env.VAULT_AUTH: "token",
            Env.VAULT_TOKEN_FILE: str(folder / "token"),
            Env.DELIVERY: "tmpfs",
            Env.DELIVERY_DIRECTORY: str(volume),
        }

    def agent(self) -> AgentProcess:
        return AgentProcess(self.folder, self.environ)


@pytest.fixture
def scene(proxy: FaultProxy, tmp_path: Path) -> Iterator[Scene]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="modelseal-test-") as volume:
        yield Scene(proxy, tmp_path, Path(volume))


CASES: list[Any] = [
    pytest.param(faults.status(503), "KeyServiceUnavailable", marks=pytest.mark.negative(18)),
    pytest.param(faults.status(429), "KeyServiceBusy", marks=pytest.mark.negative(18)),
    pytest.param(faults.reset_in_body, "KeyServiceUnavailable", marks=pytest.mark.negative(18)),
    pytest.param(
        faults.status(200, f"<html>{MARK}</html>".encode()),
        "KeyServiceProtocolError",
        marks=pytest.mark.negative(19),
    ),
    pytest.param(
        faults.status(307, Location="https://127.0.0.1:1/"),
        "KeyServiceProtocolError",
        marks=pytest.mark.negative(20),
    ),
    pytest.param(
        faults.status(403, f'{{"errors":["permission denied {MARK}"]}}'.encode()),
        "KeyAccessDenied",
        marks=pytest.mark.negative(17),
    ),
    pytest.param(
        faults.status(400, b'{"errors":["encryption key not found"]}'),
        "KeyNotFound",
        marks=pytest.mark.negative(16),
    ),
]


@pytest.mark.negative(29)
@pytest.mark.parametrize(("fault", "reason"), CASES)
def test_the_agent_says_the_reason_delivers_nothing_and_recovers_by_itself(
    scene: Scene, fault: Fault, reason: str
) -> None:
    scene.proxy.always = fault
    with scene.agent() as agent:
        agent.until_reason(reason)
        assert agent.lease() == 503
        assert [name for name in os.listdir(scene.volume) if name == "current"] == []
        assert MARK not in agent.log_text()
        assert MARK not in str(agent.report())
        scene.proxy.always = None
        agent.until_reason("Serving", seconds=40)
        assert (scene.volume / "current").is_dir()
        assert agent.stop() == 0
    assert os.listdir(scene.volume) == []


@pytest.mark.negative(13)
def test_a_wrapped_key_of_another_seal_ends_the_agent_with_its_own_exit_code(scene: Scene) -> None:
    other = seal_model(
        scene.folder / "other",
        open_provider(f"vault:{scene.mount}/models", vault=scene.service.settings()),
    )
    path = scene.sealed.folder / "seal.json"
    own = scene.sealed.seal.recipients[0].wrapped
    path.write_text(path.read_text().replace(own, other.seal.recipients[0].wrapped))
    with scene.agent() as agent:
        assert agent.wait() == 65
        message = agent.termination()
    assert message["reason"] == "WrappedKeyInvalid"
    assert os.listdir(scene.volume) == []


@pytest.mark.negative(14)
def test_a_key_service_that_answers_with_another_key_is_found_out_by_the_manifest(
    scene: Scene,
) -> None:
    """It is what a service would do that lies, and one that repeats an answer of another seal."""
    another = base64.b64encode(bytes(range(32))).decode()
    scene.proxy.always = faults.altered(lambda answer: answer["data"].update(plaintext=another))
    with scene.agent() as agent:
        assert agent.wait() == ManifestMacMismatch.exit_code
        assert agent.termination()["reason"] == "ManifestMacMismatch"
    assert os.listdir(scene.volume) == []


@pytest.mark.negative(21)
def test_an_agent_that_does_not_trust_the_key_service_sends_it_nothing(scene: Scene) -> None:
    del scene.environ[Env.VAULT_CA_FILE]
    with scene.agent() as agent:
        agent.until_reason("KeyServiceUntrusted")
    assert scene.proxy.asked == []


@pytest.mark.negative(33)
def test_neither_token_nor_wrapped_key_reaches_log_report_or_command_line(scene: Scene) -> None:
    scene.environ[Env.LOG_LEVEL] = "debug"
    with scene.agent() as agent:
        agent.until_reason("Serving")
        said = agent.log_text() + str(agent.report())
        said += Path(f"/proc/{agent.pid}/cmdline").read_text()
        said += Path(f"/proc/{agent.pid}/environ").read_text()
        agent.stop()
    for secret in (scene.service.server.root_token, scene.sealed.seal.recipients[0].wrapped):
        assert secret not in said
