"""The real agent delivers files into memory for servers that are not ours, and wipes them."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from modelseal.contract import Env
from modelseal.keys.local import KeyFileProvider, generate_key_file
from support.agent_models import FILES, SealedModel, seal_ending, seal_model
from support.agent_peer import until
from support.agent_process import AgentProcess
from support.small_volume import for_root, small_volume

pytestmark = pytest.mark.e2e


@pytest.fixture
def volume() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="modelseal-test-") as path:
        yield Path(path)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "model.key"
    generate_key_file(path)
    return path


@pytest.fixture
def sealed(tmp_path: Path, key: Path) -> SealedModel:
    return seal_model(tmp_path / "sealed", KeyFileProvider(key))


@pytest.fixture
def environ(sealed: SealedModel, key: Path, volume: Path) -> dict[Env, str]:
    return sealed.environ() | {
        Env.KEY: f"file:{key}",
        Env.DELIVERY: "tmpfs",
        Env.DELIVERY_DIRECTORY: str(volume),
    }


def delivered(volume: Path) -> dict[str, bytes]:
    root = volume / "current"
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_files_come_whole_and_go_with_the_agent(
    tmp_path: Path, environ: dict[Env, str], volume: Path
) -> None:
    with AgentProcess(tmp_path, environ) as agent:
        agent.until_reason("Serving")
        assert delivered(volume) == FILES
        assert agent.get("/healthz")[0] == agent.lease() == 200
        assert "memfd" not in " ".join(
            os.readlink(entry) for entry in Path(f"/proc/{agent.pid}/fd").iterdir()
        )
        assert agent.stop() == 0
    assert os.listdir(volume) == []


def test_what_a_killed_agent_left_is_gone_before_the_next_one_opens(
    tmp_path: Path, environ: dict[Env, str], volume: Path
) -> None:
    with AgentProcess(tmp_path, environ) as agent:
        agent.until_reason("Serving")
        agent.kill()
    assert delivered(volume) == FILES
    absent = environ | {Env.SOURCE: str(tmp_path / "nowhere")}
    with AgentProcess(tmp_path, absent) as agent:
        agent.until_reason("SourceNotFound")
        assert os.listdir(volume) == []
        assert agent.lease() == 503
        assert agent.get("/healthz")[0] == 503


def test_a_disk_is_refused(tmp_path: Path, environ: dict[Env, str]) -> None:
    disk = Path("/var/tmp")  # noqa: S108 - must be on a disk
    with AgentProcess(tmp_path, environ | {Env.DELIVERY_DIRECTORY: str(disk)}) as agent:
        assert agent.wait() == 92
        assert agent.termination()["reason"] == "NotMemoryBacked"


def moved_on(agent: AgentProcess, told: str) -> bool:
    """Tell whether the lease was renewed since the agent told its end."""
    return bool(agent.report()["leaseValidUntil"] != told)


class Clock:
    """A wall clock that is set while the agent runs; time itself passes as ever."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "clock"
        self.jump(0)

    def jump(self, seconds: float) -> None:
        """Set the clock to so many seconds from what is right."""
        new = self.path.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self.path)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


def test_a_clock_that_is_set_forward_beyond_the_seals_end_ends_the_lease(
    tmp_path: Path, environ: dict[Env, str], volume: Path, key: Path, clock: Clock
) -> None:
    sealed = seal_ending(tmp_path / "ends", KeyFileProvider(key), timedelta(hours=1))
    with AgentProcess(tmp_path, environ | sealed.environ(), clock=clock.path) as agent:
        agent.until_reason("Serving")
        clock.jump(7200)
        assert agent.wait() == 42
    assert agent.termination()["reason"] == "Expired"
    assert os.listdir(volume) == []


def test_a_clock_that_is_set_back_adds_nothing_to_the_seals_life(
    tmp_path: Path, environ: dict[Env, str], volume: Path, key: Path, clock: Clock
) -> None:
    sealed = seal_ending(tmp_path / "ends", KeyFileProvider(key))
    with AgentProcess(tmp_path, environ | sealed.environ(), clock=clock.path) as agent:
        agent.until_reason("Serving")
        clock.jump(-86400)
        agent.wait()
    assert agent.termination()["reason"] == "Expired"
    assert os.listdir(volume) == []


def test_a_clock_that_jumps_costs_a_model_without_an_end_nothing(
    tmp_path: Path, environ: dict[Env, str], volume: Path, clock: Clock
) -> None:
    values = environ | {Env.LEASE_INTERVAL: "5"}
    with AgentProcess(tmp_path, values, clock=clock.path) as agent:
        agent.until_reason("Serving")
        for seconds in (10 * 365 * 86400, -10 * 365 * 86400):
            clock.jump(seconds)
            told = agent.report()["leaseValidUntil"]
            until(partial(moved_on, agent, told))
            assert agent.report()["reason"] == "Serving"
        assert delivered(volume) == FILES
        assert agent.stop() == 0


def test_files_go_when_the_seal_ends(
    tmp_path: Path, environ: dict[Env, str], volume: Path, key: Path
) -> None:
    sealed = seal_ending(tmp_path / "ends", KeyFileProvider(key))
    with AgentProcess(tmp_path, environ | sealed.environ()) as agent:
        agent.until_reason("Serving")
        assert agent.wait() == 42
    assert os.listdir(volume) == []


@for_root
def test_a_volume_that_is_too_small_is_reported_and_left_empty(
    tmp_path: Path, environ: dict[Env, str]
) -> None:
    with (
        small_volume(tmp_path, "1m") as small,
        AgentProcess(tmp_path, environ | {Env.DELIVERY_DIRECTORY: str(small)}) as agent,
    ):
        report = agent.until_reason("OutOfMemory")
        assert report["stage"] == "Deliver"
        assert os.listdir(small) == []
        subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        agent.until_reason("Serving", seconds=40)
        assert delivered(small) == FILES
        assert agent.stop() == 0
        until(lambda: not os.listdir(small))
