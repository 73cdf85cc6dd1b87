"""`modelseal.open`: a sealed model in an application's own process."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest

import modelseal
from modelseal import errors
from modelseal.contract import Env
from modelseal.errors import ModelsealError
from modelseal.secret import Secret
from support import models
from support.cli import run

MODEL = "vision/filetype"
PASSPHRASE = "correct horse battery staple"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seal the real model for a key file, with a signature, and once more for a passphrase."""
    folder = tmp_path_factory.mktemp("inprocess")
    (folder / "passphrase").write_text(f"{PASSPHRASE}\n")
    assert run("keygen", "-o", folder / "owner.key").code == 0
    assert run("keygen", "--type", "ed25519", "-o", folder / "signer").code == 0
    seal(folder, "model.sealed", f"file:{folder / 'owner.key'}", "--sign", folder / "signer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(Env.PASSPHRASE_FILE, str(folder / "passphrase"))
        seal(folder, "phrase.sealed", "passphrase:")
    return folder


def seal(folder: Path, output: str, key: str, *more: str | Path) -> None:
    result = run(
        *("seal", models.magika_onnx(), "-o", folder / output, "--model", MODEL),
        *("--version", "1", "--sequence", "7", "--key", key, *more),
    )
    assert result.code == 0, result.err


@pytest.fixture
def room(made: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may spoil."""
    shutil.copytree(made, tmp_path / "room")
    return tmp_path / "room"


def opened(room: Path, **changes: object) -> modelseal.SealedModel:
    arguments = {
        "key": f"file:{room / 'owner.key'}",
        "model": MODEL,
        "signers": [f"file:{room / 'signer.pub'}"],
        **changes,
    }
    return modelseal.open(room / "model.sealed", **arguments)  # type: ignore[arg-type]


def plain_answer(inputs: models.Array) -> models.Array:
    """Return what OpenVINO itself makes of the model that was sealed."""
    core = openvino.Core()
    answer: models.Array = core.compile_model(str(models.magika_onnx()), "CPU")(inputs)[0]
    return answer


def test_three_lines_give_the_same_numbers_as_the_plain_model(made: Path) -> None:
    inputs = models.magika_input()
    with modelseal.open(
        made / "model.sealed",
        key=f"file:{made / 'owner.key'}",
        model=MODEL,
        signers=[f"file:{made / 'signer.pub'}"],
    ) as sealed:
        result = sealed.compile_model(openvino.Core(), "CPU")(inputs)
    (answer,) = result.values()
    np.testing.assert_array_equal(answer, plain_answer(inputs))


def test_a_passphrase_file_opens_it(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(Env.PASSPHRASE_FILE, str(made / "passphrase"))
    with modelseal.open(
        made / "phrase.sealed", key="passphrase:", model=MODEL, allow_unsigned=True
    ) as sealed:
        assert sealed.compile_model()(models.magika_input())


def test_a_passphrase_of_the_applications_own_opens_it(made: Path) -> None:
    with modelseal.open(
        made / "phrase.sealed",
        key="passphrase:",
        model=MODEL,
        allow_unsigned=True,
        passphrase=lambda: Secret(PASSPHRASE.encode()),
    ) as sealed:
        assert sealed.version == "1"


def test_a_wrong_passphrase_is_refused_and_not_shown(made: Path) -> None:
    with pytest.raises(errors.WrongPassphrase) as refused:
        modelseal.open(
            made / "phrase.sealed",
            key="passphrase:",
            model=MODEL,
            allow_unsigned=True,
            passphrase=lambda: Secret(b"a wrong and secret one"),
        )
    assert "secret one" not in str(refused.value)


@pytest.mark.parametrize("content", [None, b"", b"\nsecond line"])
def test_without_a_passphrase_it_says_how_to_give_one(
    room: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    monkeypatch.delenv(Env.PASSPHRASE_FILE, raising=False)
    if content is not None:
        (room / "passphrase").write_bytes(content)
        monkeypatch.setenv(Env.PASSPHRASE_FILE, str(room / "passphrase"))
    with pytest.raises(errors.SettingsError, match="passphrase"):
        modelseal.open(room / "phrase.sealed", key="passphrase:", model=MODEL, allow_unsigned=True)


def test_a_signer_is_required_unless_unsigned_models_are_allowed(made: Path) -> None:
    with pytest.raises(errors.SettingsError, match="no signer is pinned"):
        opened(made, signers=[])
    opened(made, signers=[], allow_unsigned=True).close()


def flip_payload(room: Path) -> None:
    path = max((room / "model.sealed/p").iterdir(), key=lambda each: each.stat().st_size)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def lengthen_payload(room: Path) -> None:
    with (room / "model.sealed/p/1.floe").open("ab") as file:
        file.write(b"\0")


def break_mac(room: Path) -> None:
    path = room / "model.sealed/seal.json"
    document = json.loads(path.read_text())
    document["mac"] = document["mac"][::-1]
    path.write_text(json.dumps(document))


def other_key(room: Path) -> None:
    (room / "owner.key").unlink()
    assert run("keygen", "-o", room / "owner.key").code == 0


def other_signer(room: Path) -> None:
    for name in ("signer", "signer.pub"):
        (room / name).unlink()
    assert run("keygen", "--type", "ed25519", "-o", room / "signer").code == 0


def no_seal(room: Path) -> None:
    (room / "model.sealed/seal.json").write_text("{}")


IN_ORDER: list[tuple[Callable[[Path], None], type[ModelsealError]]] = [
    (no_seal, errors.HeaderError),
    (other_signer, errors.SignatureInvalid),
    (other_key, errors.NoRecipient),
    (break_mac, errors.ManifestMacMismatch),
    (lengthen_payload, errors.TrailingData),
    (flip_payload, errors.SegmentInvalid),
]


@pytest.mark.parametrize("step", range(len(IN_ORDER)), ids=lambda n: IN_ORDER[n][0].__name__)
def test_of_all_that_is_wrong_the_first_in_the_order_of_checks_is_said(
    room: Path, step: int
) -> None:
    for spoil, _ in reversed(IN_ORDER[step:]):
        spoil(room)
    with pytest.raises(ModelsealError) as refused:
        opened(room)
    assert type(refused.value) is IN_ORDER[step][1]


@pytest.mark.parametrize(
    ("spoil", "changes", "options"),
    [
        (no_seal, {}, []),
        (other_signer, {}, []),
        (other_key, {}, []),
        (break_mac, {}, []),
        (lengthen_payload, {}, []),
        (flip_payload, {}, []),
        (lambda _: None, {"min_sequence": 8}, ["--min-sequence", "8"]),
        (lambda _: None, {"digest": "sha256:" + "0" * 64}, ["--digest", "sha256:" + "0" * 64]),
        (lambda _: None, {"model": "vision/other"}, ["--model", "vision/other"]),
    ],
)
def test_the_error_is_the_one_that_the_command_line_ends_with(
    room: Path, spoil: Callable[[Path], None], changes: dict[str, object], options: list[str]
) -> None:
    spoil(room)
    with pytest.raises(ModelsealError) as refused:
        opened(room, **changes)
    told = run(
        *("verify", room / "model.sealed", "--key", f"file:{room / 'owner.key'}"),
        *("--signer", f"file:{room / 'signer.pub'}", "--model", MODEL, *options),
    )
    assert told.code == refused.value.exit_code
    assert refused.value.message in told.error


def test_after_the_block_every_call_says_that_the_model_is_closed(made: Path) -> None:
    with opened(made) as sealed:
        compiled = sealed.compile_model()
    for call in (
        lambda: compiled(models.magika_input()),
        lambda: sealed.read(sealed.files[0]),
        sealed.compile_model,
    ):
        with pytest.raises(errors.ModelClosed):
            call()
    sealed.close()


def test_closing_wipes_what_was_read(made: Path) -> None:
    with opened(made) as sealed:
        view = sealed.read(sealed.files[0])
        assert view.readonly
        assert bytes(view[:5]) == b"<?xml"
    assert not any(view)


def test_memory_is_wiped_only_after_openvino_has_let_go_of_it(made: Path) -> None:
    sealed = opened(made)
    view = sealed.read(sealed.files[0])
    compiled = sealed.compile_model()
    entered, may_leave = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        entered.set()
        assert may_leave.wait(60)

    inputs = {compiled.inputs[0].name: models.magika_input()}
    user = threading.Thread(target=lambda: compiled._loaded.run(inputs, hold))
    user.start()
    assert entered.wait(60)
    closer = threading.Thread(target=sealed.close)
    closer.start()
    while not compiled._loaded.closed:
        closer.join(0.001)
    assert any(view), "a request still reads these weights"
    may_leave.set()
    for thread in (user, closer):
        thread.join(60)
    assert not any(view)


def test_threads_that_ask_while_it_closes_get_right_answers_or_are_refused(made: Path) -> None:
    inputs = models.magika_input()
    expected = plain_answer(inputs)
    wrong, answered = [], threading.Semaphore(0)
    with opened(made) as sealed:
        compiled = sealed.compile_model()

        def ask() -> None:
            while True:
                try:
                    (answer,) = compiled(inputs).values()
                except errors.ModelClosed:
                    return
                if not np.array_equal(answer, expected):
                    wrong.append(answer)
                answered.release()

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            assert answered.acquire(timeout=60)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []


@pytest.mark.parametrize(
    "inputs", [[], {"nobody": np.zeros((1, 2048), np.int32)}, np.zeros((1, 2048), np.float64)]
)
def test_inputs_that_do_not_fit_are_refused(made: Path, inputs: models.Array) -> None:
    with opened(made) as sealed, pytest.raises(errors.RequestInvalid):
        sealed.compile_model()(inputs)


def test_a_cache_directory_is_refused_because_it_would_hold_plaintext(
    made: Path, tmp_path: Path
) -> None:
    with opened(made) as sealed, pytest.raises(errors.SettingsError, match="CACHE_DIR"):
        sealed.compile_model(config={"CACHE_DIR": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_there_is_said_and_the_model_stays_usable(made: Path) -> None:
    with opened(made) as sealed:
        with pytest.raises(errors.DeviceUnavailable):
            sealed.compile_model(device="NPU")
        assert sealed.compile_model(device="NPU,CPU").device == "CPU"


def test_no_room_for_the_plaintext_is_said_before_any_key_is_asked_for(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelseal.cgroups.memory_available", lambda: 4096)
    with pytest.raises(errors.OutOfMemory, match="4096 are free"):
        opened(made, key=f"file:{made / 'missing.key'}")


def test_opening_needs_neither_openvino_nor_a_network(made: Path) -> None:
    script = (
        "import sys, modelseal\n"
        f"sealed = modelseal.open({str(made / 'model.sealed')!r}, "
        f"key={'file:' + str(made / 'owner.key')!r}, model={MODEL!r}, "
        f"signers=[{'file:' + str(made / 'signer.pub')!r}])\n"
        "print(len(sealed.read(sealed.files[0])), *sorted(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], check=True, capture_output=True, text=True
    )
    size, *modules = done.stdout.split()
    assert int(size) > 1000
    assert {"openvino", "numpy", "hvac", "requests", "urllib3", "typer"} & set(modules) == set()


def test_the_api_is_typed_for_applications_that_check_strictly(tmp_path: Path) -> None:
    application = tmp_path / "application.py"
    application.write_text(
        "import modelseal\n"
        "from modelseal import CompiledModel\n"
        "with modelseal.open('m', key='file:k', model='a/b', signers=['file:s']) as sealed:\n"
        "    compiled: CompiledModel = sealed.compile_model()\n"
        "    reveal_type(compiled({}))\n"
        "    view: memoryview = sealed.read('model.xml')\n"
        "    sealed.compile_model(device=7)\n"
        "modelseal.open('m', key='file:k')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, str(application)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert [line.rpartition("[")[2] for line in complaints] == ["arg-type]", "call-arg]"], (
        complaints
    )
    assert 'Revealed type is "dict[str, numpy.ndarray' in done.stdout.replace("builtins.", "")


@pytest.mark.parametrize(
    ("sealed", "signer"), [("no\0path", "file:signer.pub"), ("model.sealed", "file:no\0path")]
)
def test_a_path_that_cannot_exist_is_a_setting(
    made: Path, monkeypatch: pytest.MonkeyPatch, sealed: str, signer: str
) -> None:
    monkeypatch.chdir(made)
    with pytest.raises(errors.SettingsError):
        modelseal.open(sealed, key="file:owner.key", model=MODEL, signers=[signer])
