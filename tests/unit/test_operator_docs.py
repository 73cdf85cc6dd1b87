"""docs/crd.md is what the CRDs and the code say; the command and the settings do as documented."""

import os
from pathlib import Path

import pytest
import yaml

from modelseal.contract import Reason
from modelseal.errors import SettingsError
from modelseal_operator.__main__ import main
from modelseal_operator.settings import PREFIX, settings_from_env
from support.crd_reference import reference
from support.operator_objects import EXAMPLES, ROOT

PAGE = ROOT / "docs" / "crd.md"
IMAGES = {f"{PREFIX}AGENT_IMAGE": "agent:1", f"{PREFIX}RUNTIME_IMAGE": "runtime:1"}


def test_the_reference_is_up_to_date() -> None:
    actual = reference()
    if os.environ.get("MODELSEAL_UPDATE_GOLDEN"):
        PAGE.write_text(actual, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == actual


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_place_to_link_to(reason: Reason) -> None:
    assert f'<a id="{reason.value.lower()}"></a>' in PAGE.read_text(encoding="utf-8")


def test_every_setting_is_in_the_operators_readme() -> None:
    text = (ROOT / "operator" / "README.md").read_text(encoding="utf-8")
    code = (ROOT / "operator/src/modelseal_operator/settings.py").read_text(encoding="utf-8")
    names = {line.split('"')[1] for line in code.split("read.")[1:] if line.split('"')[1].isupper()}
    assert len(names) > 15
    assert {name for name in names if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("name", ["filetype", "filetype-full", "filetype-tmpfs"])
def test_render_prints_the_children_of_every_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [name, "keyprovider", "clusterkeyprovider"]
    options = [word for file in files for word in ("-f", str(EXAMPLES / f"{file}.yaml"))]
    assert main(["render", *options]) == 0
    kinds = {child["kind"] for child in yaml.safe_load_all(capsys.readouterr().out)}
    assert {"Deployment", "Service", "ConfigMap", "NetworkPolicy"} <= kinds


@pytest.mark.parametrize(
    ("text", "word"),
    [
        pytest.param("{", "not YAML", id="no YAML"),
        pytest.param("a: 1", "no EncryptedModel", id="nothing to render"),
        pytest.param(None, "failed to read", id="no file"),
        pytest.param((EXAMPLES / "filetype.yaml").read_text("utf-8"), "no KeyProvider", id="alone"),
    ],
)
def test_render_says_what_is_wrong(
    text: str | None, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert main(["render", "-f", str(path)]) != 0
    assert word in capsys.readouterr().err


def test_settings_have_defaults_for_all_but_the_images() -> None:
    settings = settings_from_env(IMAGES)
    assert (settings.pods.agent_image, settings.concurrency, settings.devices) == (
        "agent:1",
        3,
        False,
    )
    with pytest.raises(SettingsError, match="AGENT_IMAGE is not set"):
        settings_from_env({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "0"),
        ("WORKERS", "x"),
        ("DEVICES", "maybe"),
        ("DEVICE_GROUPS", "render"),
        ("POD_LABELS", "novalue"),
        ("LEASE_SECONDS", "5"),
        ("TYPO", "1"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        settings_from_env(IMAGES | {f"{PREFIX}{name}": value})


def test_settings_are_read() -> None:
    given = {
        "WATCH_NAMESPACES": "a, b",
        "DEVICE_GROUPS": "44,109",
        "POD_LABELS": "x=1,y=2",
        "DEVICES": "true",
    }
    settings = settings_from_env(IMAGES | {f"{PREFIX}{k}": v for k, v in given.items()})
    assert settings.namespaces == ("a", "b")
    assert settings.pods.device_groups == (44, 109)
    assert settings.pods.operator_labels == (("x", "1"), ("y", "2"))
    assert settings.devices
