"""`modelseal.open` with a real key service, and the pages' examples with real models."""

import re
from pathlib import Path

import numpy as np
import openvino
import pytest

import modelseal
from modelseal import errors
from modelseal.contract import Env
from support import models
from support.cli import run
from support.openbao import KeyService, hcl

ROOT = Path(__file__).resolve().parents[2]
MODEL = "vision/filetype"
SEAL = ("--model", MODEL, "--version", "1")


@pytest.mark.keys
@pytest.mark.parametrize("kind", ["vault", "vault-kv"])
def test_a_key_in_the_key_service_opens_a_model_until_the_right_to_it_is_withdrawn(
    key_service: KeyService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    key, path = made_key(key_service, kind)
    for name, value in (
        ("VAULT_ADDR", key_service.address),
        ("VAULT_TOKEN", key_service.server.root_token),
        ("VAULT_CACERT", str(key_service.ca_file)),
    ):
        monkeypatch.setenv(name, value)
    made = run("seal", models.magika_onnx(), "-o", tmp_path / "sealed", *SEAL, "--key", key)
    assert made.code == 0, made.err
    policy = key_service.policy(hcl(path, ["update", "read"]))
    settings = key_service.settings(key_service.token(policy))

    with modelseal.open(
        tmp_path / "sealed", key=key, model=MODEL, allow_unsigned=True, vault=settings
    ) as sealed:
        assert sealed.compile_model()(models.magika_input())

    key_service.call("PUT", f"sys/policies/acl/{policy}", {"policy": hcl(path, ["deny"])})
    with pytest.raises(errors.KeyAccessDenied):
        modelseal.open(
            tmp_path / "sealed", key=key, model=MODEL, allow_unsigned=True, vault=settings
        )


def made_key(service: KeyService, kind: str) -> tuple[str, str]:
    """Return the URI of a new key, and the path that opens it."""
    if kind == "vault":
        mount = service.transit()
        return f"vault:{mount}/models", f"{mount}/decrypt/models"
    mount = service.kv()
    service.call("POST", f"{mount}/data/models", {"data": {"kek": "A" * 43 + "="}})
    return f"vault-kv:{mount}/models#kek", f"{mount}/data/models"


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_every_python_example_of_a_page_runs_and_answers(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    assert examples
    prepare(tmp_path, monkeypatch)
    inputs = models.magika_input()
    plain = openvino.Core().compile_model(str(models.magika_onnx()), "CPU")(inputs)[0]
    for number, example in enumerate(examples):
        names = {"inputs": inputs, "result": None}
        exec(compile(example, f"{page}, example {number}", "exec"), names)  # noqa: S102 - ours
        assert isinstance(names["result"], dict)
        (answer,) = names["result"].values()
        np.testing.assert_array_equal(answer, plain)


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make what the examples name: a sealed model, keys, a passphrase, in the current folder."""
    monkeypatch.chdir(folder)
    Path("passphrase.txt").write_text("correct horse battery staple\n")
    monkeypatch.setenv(Env.PASSPHRASE_FILE, "passphrase.txt")
    for words in (
        ("keygen", "-o", "owner.key"),
        ("keygen", "--type", "ed25519", "-o", "signer"),
        *(
            ("seal", str(models.magika_onnx()), "-o", output, *SEAL, "--key", key, "--sign=signer")
            for output, key in (("model.sealed", "file:owner.key"), ("edge.sealed", "passphrase:"))
        ),
    ):
        result = run(*words)
        assert result.code == 0, result.err
