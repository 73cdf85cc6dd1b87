"""docs/cli.md shows the help and the exit codes as they are.

`MODELSEAL_WRITE_DOCS=1 pytest tests/unit/test_cli_docs.py` writes them anew.
"""

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

from modelseal import errors
from modelseal.cli import app
from modelseal.contract import Stage
from modelseal.errors import ModelsealError
from support.cli import run
from support.models import magika_onnx

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
WRITE = bool(os.environ.get("MODELSEAL_WRITE_DOCS"))


def replaced(page: str, marker: str, body: str) -> str:
    """Return the page with what stands between a marker's two lines replaced."""
    begin, end = f"<!-- {marker} -->\n", f"<!-- end {marker} -->"
    assert page.count(begin) == page.count(end) == 1, f"{PAGE} needs {marker}"
    before, _, rest = page.partition(begin)
    return before + begin + body + end + rest.partition(end)[2]


def check(marker: str, body: str) -> None:
    page = PAGE.read_text()
    wanted = replaced(page, marker, body)
    if WRITE:
        PAGE.write_text(wanted)
    assert wanted == PAGE.read_text()


@pytest.mark.parametrize("verb", ["", *app.VERBS])
def test_the_page_shows_the_help_of_every_verb(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = run(*filter(None, [verb]), "--help").out
    check(f"help {verb}".strip(), f"```text\n{text.rstrip()}\n```\n")


def test_the_page_lists_every_exit_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    found = [kind for kind in kinds if issubclass(kind, ModelsealError) and kind.exit_code >= 10]
    lines = ["| code | stage | reason | what happened |", "| --- | --- | --- | --- |"]
    for kind in sorted(found, key=lambda kind: kind.exit_code):
        sentence = (kind.__doc__ or "").splitlines()[0]
        stage = Stage(kind.exit_code // 10 * 10).title
        lines.append(f"| {kind.exit_code} | {stage} | {kind.reason} | {sentence} |")
    check("exit codes", "\n".join(lines) + "\n")


def test_the_page_names_every_verb_in_its_table() -> None:
    listed = re.findall(r"^\| `([a-z]+)` \| ", PAGE.read_text(), re.MULTILINE)
    assert listed == list(app.VERBS)


def test_every_command_of_the_readme_but_serving_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (PAGE.parents[1] / "README.md").read_text()
    blocks = re.findall(r"^```sh\n(modelseal .*?)^```", text, re.MULTILINE | re.DOTALL)
    commands = [
        shlex.split(line, comments=True)[1:]
        for block in blocks
        for line in block.replace("\\\n", "").splitlines()
        if line
    ]
    monkeypatch.chdir(tmp_path)
    shutil.copy(magika_onnx(), "model.onnx")
    for words in commands:
        done = run(*words, "--help") if words[0] == "serve" else run(*words)
        assert done.code == 0, (words, done.err)
    assert {words[0] for words in commands} >= {"keygen", "seal", "inspect", "verify", "serve"}
