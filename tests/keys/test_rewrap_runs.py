"""Runs of `rewrap` over many models: side by side, interrupted, killed, racing each other."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from modelseal import errors
from modelseal.cli.main import EXIT_INTERRUPTED
from modelseal.envelope import parse_seal
from support import fault_proxy as faults
from support.cli import program, run
from support.cli_serve import eventually
from support.fault_proxy import FaultProxy, Handler
from support.fleet import NAMES, Fleet
from support.openbao import hcl

pytestmark = pytest.mark.keys


def test_a_key_service_that_is_away_is_asked_for_one_model_only(
    fleet: Fleet, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelseal.keys.vault.TRIES", 1)
    monkeypatch.setenv("VAULT_ADDR", proxy.address)
    proxy.always = faults.status(503)
    result = fleet.rewrap("--json")
    assert result.json["counts"] == {"failed": 1, "not tried": 3}
    assert len(proxy.asked) == 1


def test_models_are_rewrapped_side_by_side_and_reported_in_order(
    fleet: Fleet, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.rotate()
    monkeypatch.setenv("VAULT_ADDR", proxy.address)
    together_now = threading.Barrier(3, timeout=20)

    def wait_for_the_others(handler: Handler) -> None:
        together_now.wait()
        faults.through(handler)

    proxy.faults += [faults.through, faults.through, *[wait_for_the_others] * 3]
    result = fleet.rewrap("--json", "--jobs", "3")
    assert not together_now.broken
    assert result.json["counts"] == {"rewrapped": 4}
    assert [Path(each["sealed"]).name for each in result.json["models"]] == sorted(NAMES)


def test_a_key_service_with_a_quota_sets_the_pace_and_fails_no_model(fleet: Fleet) -> None:
    fleet.rotate()
    fleet.service.call(
        "POST", f"sys/quotas/rate-limit/{fleet.mount}", {"path": fleet.mount, "rate": 1}
    )
    result = fleet.rewrap("--json")
    assert result.json["counts"] == {"rewrapped": 4}


def test_a_key_service_that_goes_away_stops_the_run_which_can_be_started_again(
    fleet: Fleet, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.rotate()
    monkeypatch.setattr("modelseal.keys.vault.TRIES", 1)
    monkeypatch.setenv("VAULT_ADDR", proxy.address)

    proxy.faults += [faults.through] * 4
    proxy.always = faults.status(503)
    result = fleet.rewrap("--json", "--jobs", "1")
    assert result.json["counts"] == {"rewrapped": 2, "failed": 1, "not tried": 1}
    assert result.code == errors.KeyServiceUnavailable.exit_code
    assert sorted(fleet.versions().values()) == ["v1", "v1", "v2", "v2"]
    proxy.always = None
    assert fleet.rewrap("--json").json["counts"] == {"rewrapped": 2, "current": 2}


def test_a_token_that_ends_in_the_middle_leaves_each_model_old_or_new_and_a_new_one_goes_on(
    fleet: Fleet, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.rotate()
    token = fleet.service.token(fleet.service.policy(hcl(f"{fleet.mount}/*")))
    monkeypatch.setenv("VAULT_TOKEN", token)
    monkeypatch.setenv("VAULT_ADDR", proxy.address)

    def ended(handler: Handler) -> None:
        fleet.service.call("POST", "auth/token/revoke", {"token": token})
        faults.through(handler)

    proxy.faults += [*[faults.through] * 4, ended]
    result = fleet.rewrap("--json", "--jobs", "1")
    assert result.code == errors.KeyAccessDenied.exit_code
    assert result.json["counts"] == {"rewrapped": 2, "failed": 2}
    assert sorted(fleet.versions().values()) == ["v1", "v1", "v2", "v2"]
    assert token not in result.err + result.out
    monkeypatch.setenv("VAULT_TOKEN", fleet.service.server.root_token)
    assert fleet.rewrap("--json").json["counts"] == {"rewrapped": 2, "current": 2}


def together(count: int, deed: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=deed, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_rewraps_that_race_each_other_lose_no_change_and_leave_a_valid_seal(fleet: Fleet) -> None:
    keys = []
    for number in range(3):
        key = f"guest{number}"
        fleet.service.call(
            "POST", f"{fleet.mount}/keys/{key}", {"type": "aes256-gcm96", "derived": True}
        )
        keys.append(f"vault:{fleet.mount}/{key}")
    place = fleet.sealed / "faces"
    results: list[int] = []

    def add(number: int) -> None:
        words = fleet.words("--add", keys[number], place=place)
        done = subprocess.run(program(*words), capture_output=True, check=False, timeout=60)
        results.append(done.returncode)

    together(3, add)
    assert results == [0, 0, 0]
    found = {each.key.split("/")[1] for each in parse_seal(fleet.text("faces")).recipients}
    assert found == {"vision_faces", "guest0", "guest1", "guest2"}
    for key in keys:
        assert run("verify", place, "--model", "vision/faces", "--key", key).code == 0


def test_a_rewrap_that_is_killed_leaves_the_old_seal_or_the_new_one(
    fleet: Fleet, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.rotate("faces")
    before = fleet.text("faces")
    monkeypatch.setenv("VAULT_ADDR", proxy.address)
    reached = threading.Event()

    def stuck(handler: Handler) -> None:
        reached.set()
        faults.hang(handler)

    proxy.always = stuck
    process = subprocess.Popen(
        program(*fleet.words(place=fleet.sealed / "faces")), stderr=subprocess.DEVNULL
    )
    assert reached.wait(30)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert fleet.text("faces") == before
    proxy.always = None
    assert fleet.rewrap("--json", place=fleet.sealed / "faces").json["counts"] == {"rewrapped": 1}


def test_a_run_that_is_killed_leaves_no_process_and_each_model_old_or_new(
    fleet: Fleet, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.rotate()
    monkeypatch.setenv("VAULT_ADDR", proxy.address)
    reached = threading.Semaphore(0)

    def stuck(handler: Handler) -> None:
        reached.release()
        faults.hang(handler)

    proxy.faults += [faults.through, faults.through]
    proxy.always = stuck
    process = subprocess.Popen(
        program(*fleet.words("--jobs", "2")), stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert reached.acquire(timeout=30)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    eventually(lambda: not is_there(process.pid))
    assert sorted(fleet.versions().values()) == ["v1", "v1", "v1", "v2"]
    proxy.always = None
    assert fleet.rewrap("--json").json["counts"] == {"rewrapped": 3, "current": 1}


def test_a_run_that_is_interrupted_ends_what_it_has_begun_and_goes_on_with_the_next(
    fleet: Fleet, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.rotate()
    monkeypatch.setenv("VAULT_ADDR", proxy.address)
    reached, interrupted = threading.Event(), threading.Event()

    def wait_for_the_interrupt(handler: Handler) -> None:
        reached.set()
        interrupted.wait(20)
        faults.through(handler)

    proxy.faults += [faults.through, faults.through, wait_for_the_interrupt]
    process = subprocess.Popen(
        program(*fleet.words("--jobs", "1")),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert reached.wait(30)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    interrupted.set()
    _, said = process.communicate(timeout=30)
    assert process.returncode == EXIT_INTERRUPTED
    assert said == "modelseal: error: interrupted\n"
    assert not is_there(process.pid)
    versions = fleet.versions()
    left = sum(version == "v1" for version in versions.values())
    assert set(versions.values()) <= {"v1", "v2"}
    assert not list(fleet.sealed.rglob(".seal.json*"))
    proxy.always = None
    counts = fleet.rewrap("--json").json["counts"]
    assert counts.get("rewrapped", 0) == left


def is_there(group: int) -> bool:
    """Whether a process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
