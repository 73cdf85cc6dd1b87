"""Rotation as an owner does it, on a real server: rotate, rewrap a folder, raise the minimum."""

import base64
import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from modelseal import errors
from modelseal.envelope import parse_seal
from modelseal.keys.policy_text import policy_name, script, vault_steps
from support import fault_proxy as faults
from support.cli import everything_below, run
from support.fault_proxy import FaultProxy
from support.fleet import NAMES, Fleet
from support.http_origin import serving

pytestmark = pytest.mark.keys


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
        proxy.faults.append(faults.through if lie is None else faults.altered(told(lie, other)))
    result = fleet.rewrap(place=fleet.sealed / "faces")
    assert result.code == kind.exit_code
    assert fleet.text("faces") == before
    assert everything_below(fleet.sealed / "faces") == files


def told(lie: Callable[[dict[str, Any], str], None], other: str) -> Callable[[Any], None]:
    """Return the lie with what another model's seal holds."""
    return lambda document: lie(document, other)


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
