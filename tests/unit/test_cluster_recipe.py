"""The recipes of the images and of the test clusters: they hold what they need, and are pinned."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.binaries import GROUPS, SCRIPTS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = (SCRIPTS / "binaries.sh").read_text()


def test_every_program_belongs_to_a_group_that_the_script_builds() -> None:
    groups = re.search(r'^ALL="(.*)"$', SCRIPT, re.MULTILINE)
    assert groups is not None
    assert set(GROUPS.values()) <= set(groups[1].split())
    assert all(f"build_{group}()" in SCRIPT for group in groups[1].split())


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_every_script_is_valid_and_can_be_run(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    assert script.stat().st_mode & 0o111


@pytest.mark.parametrize("part", ["operator", "sidecar", "runtime"])
def test_every_image_is_pinned_hash_checked_and_not_roots(part: str) -> None:
    text = (ROOT / part / "Containerfile").read_text()
    images = re.findall(r"^ARG (?:BUILDER|BASE)=(\S+)$", text, re.MULTILINE)
    assert len(images) == 2
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", image) for image in images)
    assert "--require-hashes" in text
    assert re.search(r"^USER [1-9][0-9]+:[1-9][0-9]+$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("part", "program"),
    [
        ("operator", "modelseal_operator"),
        ("sidecar", "modelseal_sidecar"),
        ("runtime", "modelseal_runtime"),
    ],
)
def test_an_image_holds_every_module_of_ours_that_its_program_loads(
    part: str, program: str
) -> None:
    """What is missing there shows in no test that runs from the checkout."""
    text = (ROOT / part / "Containerfile").read_text().replace("\\\n", " ")
    copied = {
        word.removesuffix(".py")
        for line in re.findall(r"^COPY (src/modelseal/.*) /opt\S+$", text, re.MULTILINE)
        for word in line.split()
    }
    files = sorted((ROOT / part / "src" / program).rglob("*.py"))
    for place in copied:
        path = ROOT / place
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    needed = {name for file in files for name in loaded(ast.parse(file.read_text()))}
    needed.discard("modelseal.inprocess")  # `modelseal.open` loads it, and no program calls that
    assert {name for name in needed if module(name) not in copied} == set()


def loaded(node: ast.AST) -> Iterator[str]:
    """Yield the modules of the library that code loads, but for what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.ImportFrom) and child.module == "modelseal":
            yield from (f"modelseal.{each.name}" for each in child.names)
        elif isinstance(child, ast.ImportFrom) and (child.module or "").startswith("modelseal."):
            yield str(child.module)
        yield from loaded(child)


def module(name: str) -> str:
    """Return where a module of the library lies: its file, or the folder that is copied whole."""
    return "/".join(["src", *name.split(".")[:2]])
