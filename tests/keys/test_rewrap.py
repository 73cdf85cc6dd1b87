"""Rotation as an owner does it, on a real server: rotate, rewrap a folder, raise the minimum."""

import base64
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelseal import errors
from modelseal.cli.main import EXIT_INTERRUPTED
from modelseal.envelope import parse_seal
from modelseal.keys.policy_text import policy_name, script, vault_steps
from support import fault_proxy as faults
from support.cli import Result, everything_below, program, run
from support.cli_models import plain_ir
from support.cli_serve import eventually
from support.fault_proxy import FaultProxy, Handler
from support.http_origin import serving
from support.openbao import KeyService, hcl

pytestmark = pytest.mark.keys
NAMES = ("filetype", "faces", "plates", "speech")


class Fleet:
    """Sealed models of one owner in one folder, each with a transit key of its own."""

    def __init__(self, service: KeyService, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.service, self.folder, self.mount = service, folder, service.transit()
        self.plain = folder / "plain"
        self.sealed = folder / "sealed"
        self.plain.mkdir()
        self.sealed.mkdir()
        patch.setenv("VAULT_ADDR", service.address)
        patch.setenv("VAULT_CACERT", str(service.ca_file))
        patch.setenv("VAULT_TOKEN", service.server.root_token)
        assert run("keygen", "-o", folder / "release", "--type", "ed25519").code == 0
        plain_ir(self.plain, weights=1000)
        for name in NAMES:
            self.seal(name)

    def seal(self, name: str) -> None:
        self.service.call(
            "POST", f"{self.mount}/keys/vision_{name}", {"type": "aes256-gcm96", "derived": True}
        )
        result = run(
            *("seal", self.plain, "-o", self.sealed / name, "--model", f"vision/{name}"),
            *("--version", "1", "--key", f"vault:{self.mount}/vision_{name}"),
            *("--sign", self.folder / "release"),
        )
        assert result.code == 0, result.err

    def config(self, name: str, **values: int) -> None:
        self.service.call("POST", f"{self.mount}/keys/vision_{name}/config", values)

    def rotate(self, *names: str) -> None:
        for name in names or NAMES:
            self.service.call("POST", f"{self.mount}/keys/vision_{name}/rotate")

    def rewrap(self, *more: str | Path, place: str | Path | None = None) -> Result:
        return run(*self.words(*more, place=place))

    def words(self, *more: str | Path, place: str | Path | None = None) -> list[str]:
        key = f"vault:{self.mount}/{{owner}}_{{name}}"
        words = ("rewrap", place or self.sealed, "--model", "vision/*", "--key", key)
        return [
            str(word) for word in (*words, "--signer", f"file:{self.folder}/release.pub", *more)
        ]

    def text(self, name: str) -> bytes:
        return (self.sealed / name / "seal.json").read_bytes()

    def versions(self) -> dict[str, str]:
        return {
            name: parse_seal(self.text(name)).recipients[0].wrapped.split(":")[1] for name in NAMES
        }

    def verify(self, name: str) -> Result:
        key = f"vault:{self.mount}/vision_{name}"
        return run("verify", self.sealed / name, "--model", f"vision/{name}", "--key", key)


@pytest.fixture
def fleet(key_service: KeyService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(key_service, tmp_path, monkeypatch)


def test_after_a_rotation_everything_that_was_rewrapped_opens_and_the_rest_is_revoked(
    fleet: Fleet,
) -> None:
    left = fleet.folder / "left-behind"
    shutil.copytree(fleet.sealed / "faces", left)
    before = {name: (fleet.text(name), everything_below(fleet.sealed / name)) for name in NAMES}
    fleet.rotate()
    result = fleet.rewrap("--json")
    assert result.code == 0, result.err
    report = result.json
    assert report["counts"] == {"rewrapped": len(NAMES)}
    assert {each["model"] for each in report["models"]} == {f"vision/{name}" for name in NAMES}
    for each in report["models"]:
        assert (each["keyVersionsBefore"], each["keyVersions"]) == ([1], [2])
    for name in NAMES:
        fleet.config(name, min_decryption_version=2)
        assert fleet.verify(name).code == 0
        old, new = parse_seal(before[name][0]), parse_seal(fleet.text(name))
        assert old.envelope == new.envelope
        assert old.mac == new.mac
        assert everything_below(fleet.sealed / name) == before[name][1]
    key = f"vault:{fleet.mount}/vision_faces"
    refused = run("verify", left, "--model", "vision/faces", "--key", key)
    assert refused.code == errors.KeyRevoked.exit_code


def test_a_second_run_changes_nothing_and_says_so(fleet: Fleet) -> None:
    fleet.rotate()
    assert fleet.rewrap().code == 0
    texts = {name: fleet.text(name) for name in NAMES}
    again = fleet.rewrap("--json")
    assert again.json["counts"] == {"current": len(NAMES)}
    assert texts == {name: fleet.text(name) for name in NAMES}


def test_the_table_names_each_model_and_what_became_of_it(fleet: Fleet) -> None:
    fleet.rotate("faces")
    result = fleet.rewrap()
    lines = {line.split()[1]: line for line in result.out.splitlines()[1:]}
    assert "rewrapped (v1 to v2)" in lines["vision/faces"]
    assert "current" in lines["vision/plates"]
    assert "1 rewrapped, 3 current" in result.err


def test_one_model_that_fails_stops_nobody_and_decides_the_exit_code(fleet: Fleet) -> None:
    fleet.rotate()
    broken = fleet.sealed / "faces" / "seal.json"
    text = json.loads(broken.read_bytes())
    wrapped = text["recipients"][0]["wrapped"]
    text["recipients"][0]["wrapped"] = wrapped[:-4] + ("AAAA" if wrapped[-4:] != "AAAA" else "BBBB")
    broken.write_text(json.dumps(text))
    spoilt = broken.read_bytes()
    result = fleet.rewrap("--json")
    assert result.code == errors.WrappedKeyInvalid.exit_code
    assert result.json["counts"] == {"rewrapped": 3, "failed": 1}
    failed = [each for each in result.json["models"] if each["result"] == "failed"]
    assert failed[0]["error"]["reason"] == "WrappedKeyInvalid"
    assert broken.read_bytes() == spoilt


def test_a_model_that_is_not_meant_or_signed_by_somebody_else_is_left_alone(fleet: Fleet) -> None:
    fleet.rotate()
    key = f"vault:{fleet.mount}/{{owner}}_{{name}}"
    result = run("rewrap", fleet.sealed, "--model", "vision/f*", "--key", key, "--json")
    assert result.json["counts"] == {"rewrapped": 2, "failed": 2}
    assert fleet.versions() == {"filetype": "v2", "faces": "v2", "plates": "v1", "speech": "v1"}
    assert run("keygen", "-o", fleet.folder / "other", "--type", "ed25519").code == 0
    stranger = ("--signer", f"file:{fleet.folder}/other.pub")
    result = run("rewrap", fleet.sealed, "--model", "vision/*", "--key", key, *stranger, "--json")
    assert result.json["counts"] == {"failed": 4}
    assert result.code == errors.SignatureInvalid.exit_code


def test_a_key_service_that_goes_away_stops_the_run_which_can_be_started_again(
    fleet: Fleet, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.rotate()
    monkeypatch.setattr("modelseal.keys.vault.TRIES", 1)
    monkeypatch.setenv("VAULT_ADDR", proxy.address)

    proxy.faults += [through] * 4
    proxy.always = faults.status(503)
    result = fleet.rewrap("--json", "--jobs", "1")
    assert result.json["counts"] == {"rewrapped": 2, "failed": 1, "not tried": 1}
    assert result.code == errors.KeyServiceUnavailable.exit_code
    assert sorted(fleet.versions().values()) == ["v1", "v1", "v2", "v2"]
    proxy.always = None
    assert fleet.rewrap("--json").json["counts"] == {"rewrapped": 2, "current": 2}


def through(handler: Handler) -> None:
    handler.answer(*handler.forwarded())


def nonsense(document: dict[str, Any], _: str) -> None:
    document["data"]["ciphertext"] = "nonsense"


def another_key(document: dict[str, Any], _: str) -> None:
    wrapped = document["data"]["ciphertext"]
    spoilt = wrapped[:-4] + ("AAAA" if wrapped[-4:] != "AAAA" else "BBBB")
    document["data"]["ciphertext"] = spoilt


def a_replay(document: dict[str, Any], other: str) -> None:
    document["data"]["ciphertext"] = other.replace(":v1:", ":v2:")


def another_data_key(document: dict[str, Any], _: str) -> None:
    document["data"]["plaintext"] = base64.b64encode(bytes(32)).decode()


LIES = [
    pytest.param([nonsense], errors.KeyServiceProtocolError, id="nonsense"),
    pytest.param([another_key], errors.WrappedKeyInvalid, id="another key"),
    pytest.param([a_replay], errors.WrappedKeyInvalid, id="a replay"),
    pytest.param([None, another_data_key], errors.ManifestMacMismatch, id="another data key"),
]


@pytest.mark.parametrize(("lies", "kind"), LIES)
def test_a_new_file_that_does_not_open_never_replaces_the_old_one(
    fleet: Fleet,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    lies: list[Callable[[dict[str, Any], str], None] | None],
    kind: type[errors.ModelsealError],
) -> None:
    """The key service lies in its first answer, to the rewrap, or in its second, to the trial."""
    fleet.rotate("faces")
    before, files = fleet.text("faces"), everything_below(fleet.sealed / "faces")
    other = parse_seal(fleet.text("plates")).recipients[0].wrapped
    monkeypatch.setenv("VAULT_ADDR", proxy.address)
    for lie in lies:
        proxy.faults.append(through if lie is None else faults.altered(told(lie, other)))
    result = fleet.rewrap(place=fleet.sealed / "faces")
    assert result.code == kind.exit_code
    assert fleet.text("faces") == before
    assert everything_below(fleet.sealed / "faces") == files


def told(lie: Callable[[dict[str, Any], str], None], other: str) -> Callable[[Any], None]:
    """Return the lie with what another model's seal holds."""
    return lambda document: lie(document, other)


def test_a_token_that_ends_in_the_middle_leaves_each_model_old_or_new_and_a_new_one_goes_on(
    fleet: Fleet, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.rotate()
    token = fleet.service.token(fleet.service.policy(hcl(f"{fleet.mount}/*")))
    monkeypatch.setenv("VAULT_TOKEN", token)
    monkeypatch.setenv("VAULT_ADDR", proxy.address)

    def ended(handler: Handler) -> None:
        fleet.service.call("POST", "auth/token/revoke", {"token": token})
        through(handler)

    proxy.faults += [*[through] * 4, ended]
    result = fleet.rewrap("--json", "--jobs", "1")
    assert result.code == errors.KeyAccessDenied.exit_code
    assert result.json["counts"] == {"rewrapped": 2, "failed": 2}
    assert sorted(fleet.versions().values()) == ["v1", "v1", "v2", "v2"]
    assert token not in result.err + result.out
    monkeypatch.setenv("VAULT_TOKEN", fleet.service.server.root_token)
    assert fleet.rewrap("--json").json["counts"] == {"rewrapped": 2, "current": 2}


def test_whoever_may_only_rewrap_can_rewrap(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = vault_steps(model="vision/faces", key=f"vault:{fleet.mount}/vision_faces")
    policies = [step for step in steps if "policy write" in step.command]
    fleet.service.paste(script(policies))
    fleet.rotate("faces")
    token = fleet.service.token(policy_name("vision/faces", "rewrapper"))
    monkeypatch.setenv("VAULT_TOKEN", token)
    result = fleet.rewrap(place=fleet.sealed / "faces")
    assert result.code == 0
    assert f"not allowed to unwrap with vault-transit {fleet.mount}/vision_faces" in result.err
    assert "1 rewrapped" in result.err
    assert fleet.rewrap("--json").json["counts"] == {"current": 1, "failed": 3}


def test_a_key_that_may_only_rewrap_is_refused_an_unwrap_for_one_model_of_a_run(
    fleet: Fleet, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusals for every model would fill the audit log, as if somebody tried doors."""
    steps = [
        step
        for name in NAMES
        for step in vault_steps(model=f"vision/{name}", key=f"vault:{fleet.mount}/vision_{name}")
        if "policy write" in step.command
    ]
    fleet.service.paste(script(steps))
    fleet.rotate()
    policies = [policy_name(f"vision/{name}", "rewrapper") for name in NAMES]
    monkeypatch.setenv("VAULT_TOKEN", fleet.service.token(*policies))
    monkeypatch.setenv("VAULT_ADDR", proxy.address)
    result = fleet.rewrap("--json")
    assert result.json["counts"] == {"rewrapped": 4}
    assert [each["unopened"] for each in result.json["models"]] == [
        [{"kind": "vault-transit", "key": f"{fleet.mount}/vision_{name}"}] for name in sorted(NAMES)
    ]
    tries = [path for path in proxy.paths() if "/decrypt/" in path]
    assert tries == [f"/v1/{fleet.mount}/decrypt/vision_faces"] * 2  # and once to be sure


def test_a_refusal_of_one_model_does_not_spare_the_next_its_trial(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Policies pin models: of two with one key, one may be opened and the other one not."""
    key = f"vault:{fleet.mount}/vision_faces"
    second = fleet.sealed / "zebras"
    made = run(
        *("seal", fleet.plain, "-o", second, "--model", "vision/zebras", "--version", "1"),
        *("--key", key, "--sign", fleet.folder / "release"),
    )
    assert made.code == 0, made.err
    fleet.rotate("faces")
    for model in ("vision/faces", "vision/zebras"):
        steps = vault_steps(model=model, key=key)
        fleet.service.paste(script([step for step in steps if "policy write" in step.command]))
    renews, opens = policy_name("vision/faces", "rewrapper"), policy_name("vision/zebras", "agent")
    monkeypatch.setenv("VAULT_TOKEN", fleet.service.token(renews, opens))
    result = run(
        *("rewrap", fleet.sealed / "faces", second, "--model", "vision/*", "--key", key, "--json")
    )
    unopened = {each["model"]: bool(each["unopened"]) for each in result.json["models"]}
    assert unopened == {"vision/faces": True, "vision/zebras": False}


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

    proxy.faults += [through, through]
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
        handler.answer(*handler.forwarded())

    proxy.faults += [through, through, wait_for_the_interrupt]
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


def test_a_model_behind_an_address_is_rewrapped_into_a_folder_to_publish(fleet: Fleet) -> None:
    fleet.rotate("faces")
    with serving(fleet.sealed) as origin:
        address = f"{origin.address}/faces"
        refused = fleet.rewrap(place=address)
        assert refused.code == errors.SettingsError.exit_code
        assert "--output" in refused.hint
        out = fleet.folder / "out"
        for _ in range(2):
            result = fleet.rewrap("-o", out, place=address)
            assert result.code == 0, result.err
        (fleet.sealed / "faces" / "seal.json").write_bytes((out / "faces/seal.json").read_bytes())
        assert fleet.verify("faces").code == 0
        assert fleet.rewrap("--json", "-o", out, place=address).json["counts"] == {"current": 1}


def test_an_expired_model_is_not_renewed(fleet: Fleet) -> None:
    result = run(
        *("seal", fleet.plain, "-o", fleet.sealed / "old", "--model", "vision/faces"),
        *("--version", "0", "--key", f"vault:{fleet.mount}/vision_faces"),
        *("--not-after", "2020-01-01", "--sign", fleet.folder / "release"),
    )
    assert result.code == 0, result.err
    assert fleet.rewrap(place=fleet.sealed / "old").code == errors.Expired.exit_code


def test_a_place_without_sealed_models_is_named(fleet: Fleet) -> None:
    (fleet.folder / "empty").mkdir()
    result = fleet.rewrap(place=fleet.folder / "empty")
    assert result.code == errors.NotSealed.exit_code


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
        handler.answer(*handler.forwarded())

    proxy.faults += [through, through, *[wait_for_the_others] * 3]
    result = fleet.rewrap("--json", "--jobs", "3")
    assert result.json["counts"] == {"rewrapped": 4}
    assert [Path(each["sealed"]).name for each in result.json["models"]] == sorted(NAMES)
