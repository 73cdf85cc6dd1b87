"""docs/operations.md: its resources are accepted, its commands and values exist."""

import re
import shlex
from typing import Any

import pytest
import yaml

from modelseal.cli.app import load
from modelseal_operator.provider import parse_provider
from modelseal_operator.resource import parse_model
from support.operator_objects import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^ *```([a-z]+)\n(.*?)^ *```$", PAGE, re.MULTILINE | re.DOTALL)
VALUES = yaml.safe_load((ROOT / "charts/modelseal/values.yaml").read_text(encoding="utf-8"))


def commands(program: str) -> list[list[str]]:
    """Return the words of every line that starts a program."""
    shell = "\n".join(body for kind, body in BLOCKS if kind == "sh").replace("\\\n", " ")
    return [shlex.split(line) for line in shell.splitlines() if line.strip().startswith(program)]


def documents() -> list[dict[str, Any]]:
    return [yaml.safe_load(body) for kind, body in BLOCKS if kind == "yaml"]


def test_the_resources_of_the_page_are_accepted() -> None:
    kinds = []
    for document in documents():
        kinds.append(document["kind"])
        document["metadata"] |= {"uid": "u", "generation": 1}
        if document["kind"] == "KeyProvider":
            parse_provider("KeyProvider", document)
        else:
            parse_model(document)
    assert kinds == ["KeyProvider", "EncryptedModel"]


@pytest.mark.parametrize("words", commands("modelseal"), ids=lambda words: words[1])
def test_the_commands_of_the_page_exist_with_their_options(words: list[str]) -> None:
    known = {option for parameter in load(words[1]).params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} - known == set()


def test_the_values_of_the_page_are_the_charts() -> None:
    row = re.compile(r"`([a-z]+(?:[A-Z][a-z]+)*(?:\.[a-zA-Z]+)*)(?:=[^`]*)?`")
    install = PAGE.partition("What sites ask for first:")[2].partition("## Key service")[0]
    named = [name for name in row.findall(install) if name.split(".")[0] in VALUES]
    assert len(named) > 10
    for name in named:
        value: Any = VALUES
        for part in name.split("."):
            assert part in value, name
            value = value[part]


def test_every_role_that_the_page_names_is_one_that_policy_prints() -> None:
    (provider, _) = documents()
    role = provider["spec"]["vault"]["auth"]["role"].format(owner="vision", name="filetype")
    assert role == "modelseal-vision_filetype-agent"
