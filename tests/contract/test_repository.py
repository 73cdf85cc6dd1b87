"""The repository keeps its own promises: versions agree, lists are pinned, pages are true."""

import operator
import re
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest

from modelseal import contract

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = [ROOT / part / "pyproject.toml" for part in (".", "operator", "sidecar", "runtime")]
LISTS = sorted((ROOT / "requirements").glob("*.txt"))
NAME = re.compile(r"^[A-Za-z0-9._-]+")


def project(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        table: dict[str, Any] = tomllib.load(file)["project"]
    return table


def declared_packages() -> set[str]:
    """Return every package that one of the four project files names."""
    names: set[str] = set()
    for path in PROJECTS:
        table = project(path)
        groups = [table["dependencies"], *table.get("optional-dependencies", {}).values()]
        names |= {match[0] for group in groups for line in group if (match := NAME.match(line))}
    return {name for name in names if not name.startswith("modelseal")}


def test_all_four_packages_and_the_contract_have_one_version() -> None:
    versions = {project(path)["version"] for path in PROJECTS} | {contract.VERSION}
    assert versions == {contract.VERSION}


def test_the_standard_library_keeps_its_operator_module() -> None:
    assert Path(operator.__file__).parent == Path(sysconfig.get_path("stdlib"))


def test_every_dependency_earns_its_line_in_the_dependency_page() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    listed = set(re.findall(r"^\| ([A-Za-z][A-Za-z0-9-]*) \| (?!where)", page, re.MULTILINE))
    assert listed == declared_packages()


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.name)
def test_every_pinned_package_has_a_hash_and_no_address(path: Path) -> None:
    text = path.read_text()
    pins = re.findall(r"^[a-z0-9._-]+==", text, re.MULTILINE)
    blocks = re.findall(r"^[a-z0-9._-]+==[^\n]*\\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(blocks) == len(pins)
    assert "://" not in text


def test_the_library_has_no_required_dependency() -> None:
    assert project(PROJECTS[0])["dependencies"] == []


@pytest.mark.parametrize(
    ("program", "forbidden"),
    [
        ("runtime", {"hvac", "cryptography", "requests"}),
        ("operator", {"openvino", "cryptography", "hvac"}),
        ("sidecar", {"openvino", "numpy"}),
    ],
)
def test_a_programs_pinned_list_holds_nothing_it_must_not_have(
    program: str, forbidden: set[str]
) -> None:
    text = (ROOT / "requirements" / f"{program}.txt").read_text()
    pinned = set(re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE))
    assert pinned & forbidden == set()
