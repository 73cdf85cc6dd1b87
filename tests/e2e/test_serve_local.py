"""`modelseal serve` on a laptop: two programs, no key in either's surroundings, one reason."""

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelseal import errors
from support.cli import Result, environment, run, spawn
from support.cli_models import MODEL, key_file, seal, small_onnx
from support.cli_serve import Served, all_ended, ask, eventually, serving, watch

pytestmark = pytest.mark.e2e
PASSPHRASE = "canary-passphrase-93af"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model sealed for a key file and signed, and one for a passphrase."""
    folder = tmp_path_factory.mktemp("room")
    model, key = small_onnx(folder), key_file(folder)
    (folder / "passphrase").write_text(f"{PASSPHRASE}\n")
    assert run("keygen", "-o", folder / "release", "--type", "ecdsa-p256").code == 0
    made = seal(model, folder / "sealed", "--sign", folder / "release", key=f"file:{key}")
    assert made.code == 0, made.err
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELSEAL_PASSPHRASE_FILE", str(folder / "passphrase"))
        assert seal(model, folder / "by-passphrase", key="passphrase:").code == 0
    return folder


def words(room: Path, *more: str | Path, key: str | None = None) -> list[str | Path]:
    """Return the arguments that serve the model of the room."""
    signer = f"file:{room}/release.pub"
    return [
        *(room / "sealed", "--model", MODEL, "--key", key or f"file:{room}/my.key"),
        *("--signer", signer, *more),
    ]


@pytest.fixture
def served(room: Path) -> Iterator[Served]:
    with serving(*words(room), env=environment(room)) as running:
        running.endpoints()
        yield running


def infer(endpoints: dict[str, str]) -> list[float]:
    question = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [3], "data": [1, 2, 3.5]}]}
    path = f"/v2/models/{endpoints['model']}/infer"
    answer: list[float] = ask(endpoints["rest"], path, question)["outputs"][0]["data"]
    return answer


def test_a_sealed_model_answers_and_ctrl_c_ends_both_programs_with_code_0(room: Path) -> None:
    with serving(*words(room), env=environment(room)) as running:
        endpoints = running.endpoints()
        assert endpoints["model"] == "tiny"
        assert endpoints["device"] == "CPU"
        assert infer(endpoints) == [2, 4, 7]
        children = running.children()
        assert set(children) == {"modelseal_sidecar", "modelseal_runtime"}
        watched = watch(list(children.values()))
        running.process.send_signal(signal.SIGINT)
        code, said = running.ended()
        assert (code, "stopping" in said) == (0, True)
        assert all_ended(watched, 0.5)


def test_sigterm_ends_both_programs_too(served: Served) -> None:
    watched = watch(list(served.children().values()))
    served.process.terminate()
    assert served.ended()[0] == 143
    assert all_ended(watched, 0.5)


def test_no_program_outlives_a_killed_command(served: Served) -> None:
    watched = watch(list(served.children().values()))
    served.process.kill()
    assert all_ended(watched)


def test_the_devices_are_walked_until_one_works(room: Path) -> None:
    with serving(*words(room, "--device", "NPU.7,CPU"), env=environment(room)) as running:
        assert running.endpoints()["device"] == "CPU"


@pytest.mark.negative(33)
def test_neither_program_shows_the_passphrase_in_its_environment_or_command_line(
    room: Path,
) -> None:
    env = environment(room, MODELSEAL_PASSPHRASE_FILE=str(room / "passphrase"))
    place = room / "by-passphrase"
    with serving(place, "--model", MODEL, "--key", "passphrase:", env=env) as running:
        assert infer(running.endpoints()) == [2, 4, 7]
        children = running.children()
        for number in (running.process.pid, *children.values()):
            for name in ("environ", "cmdline"):
                assert PASSPHRASE.encode() not in Path(f"/proc/{number}/{name}").read_bytes()
        runtime = Path(f"/proc/{children['modelseal_runtime']}/environ").read_bytes()
        assert b"PASSPHRASE" not in runtime
        assert b"MODELSEAL_KEY" not in runtime


def test_the_runtime_inherits_no_descriptor_but_its_socket(room: Path) -> None:
    env = environment(room, MODELSEAL_PASSPHRASE_FILE=str(room / "passphrase"))
    place = room / "by-passphrase"
    with serving(place, "--model", MODEL, "--key", "passphrase:", env=env) as running:
        running.endpoints()
        children = running.children()
        open_files = {
            name: {
                os.readlink(path)
                for path in Path(f"/proc/{number}/fd").iterdir()
                if path.is_symlink()
            }
            for name, number in children.items()
        }
        assert any("memfd:passphrase" in name for name in open_files["modelseal_sidecar"])
        assert not any("memfd:passphrase" in name for name in open_files["modelseal_runtime"])


def test_a_key_that_is_taken_away_unloads_the_model_and_says_so(room: Path) -> None:
    key = shutil.copy(room / "my.key", room / "leaving.key")
    more = ("--lease-interval", "5")
    with serving(*words(room, *more, key=f"file:{key}"), env=environment(room)) as running:
        running.endpoints()
        watched = watch(list(running.children().values()))
        Path(key).unlink()
        code, said = running.ended()
        assert code == errors.KeyNotFound.exit_code, said
        assert "the model was unloaded: KeyNotFound" in said
        assert all_ended(watched, 0.5)


def refused(result: Result, kind: type[errors.ModelsealError], what: str) -> None:
    assert result.code == kind.exit_code, result.err
    assert what in result.error
    assert result.out == ""


def serve(room: Path, *more: str | Path, **extra: str) -> Result:
    return spawn(
        *("serve", *words(room, *more), "--grpc-port", "0"), env=environment(room, **extra)
    )


def test_a_port_in_use_is_said_before_any_key_is_read(room: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused(serve(room, "--http-port", port), errors.PortInUse, f":{port}")


def test_a_device_that_is_not_there_is_said(room: Path) -> None:
    result = serve(room, "--http-port", "0", "--device", "NPU.7")
    refused(result, errors.DeviceUnavailable, "DeviceUnavailable")
    assert "modelseal doctor" in result.hint


def test_a_wrong_passphrase_is_said_and_nothing_is_served(room: Path) -> None:
    (room / "wrong").write_text("hunter2-wrong")
    result = spawn(
        *("serve", room / "by-passphrase", "--model", MODEL, "--key", "passphrase:"),
        *("--http-port", "0", "--grpc-port", "0"),
        env=environment(room, MODELSEAL_PASSPHRASE_FILE=str(room / "wrong")),
    )
    refused(result, errors.WrongPassphrase, "WrongPassphrase")
    assert "hunter2" not in result.err


def test_another_name_is_refused_in_so_many_words(room: Path) -> None:
    result = spawn(
        *("serve", room / "sealed", "--model", "team/other", "--key", f"file:{room}/my.key"),
        *("--http-port", "0", "--grpc-port", "0"),
        env=environment(room),
    )
    refused(result, errors.PolicyViolation, "team/other is demanded")


@pytest.mark.negative(32)
def test_without_memory_for_the_plaintext_nothing_is_served(room: Path) -> None:
    prefix = ["/bin/sh", "-c", 'ulimit -f 0 && exec "$@"', "sh"]
    with serving(*words(room), env=environment(room), prefix=prefix) as running:
        code, said = running.ended()
    assert code == errors.OutOfMemory.exit_code, said
    assert "OutOfMemory" in said


@pytest.mark.negative(29)
def test_a_flipped_byte_is_refused_and_nothing_is_served(room: Path, tmp_path: Path) -> None:
    shutil.copytree(room / "sealed", tmp_path / "sealed")
    payload = tmp_path / "sealed" / "p" / "1.floe"
    content = bytearray(payload.read_bytes())
    content[-1] ^= 1
    payload.write_bytes(content)
    result = spawn(
        *("serve", tmp_path / "sealed", "--model", MODEL, "--key", f"file:{room}/my.key"),
        *("--http-port", "0", "--grpc-port", "0"),
        env=environment(room),
    )
    refused(result, errors.SegmentInvalid, "SegmentInvalid")


def test_serving_leaves_no_file_behind(room: Path, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    env = environment(tmp_path, TMPDIR=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    with serving(*words(room), env=env) as running:
        assert infer(running.endpoints()) == [2, 4, 7]
        eventually(lambda: set(tmp_path.rglob("*")) == before)
    assert set(tmp_path.rglob("*")) == before
