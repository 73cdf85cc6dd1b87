"""docs/keys.md: its commands run, in their order, on a real server; its tables are the code's.

`MODELSEAL_WRITE_DOCS=1 pytest tests/keys/test_docs_keys.py` writes the printed policies anew.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelseal.cli.story.openbao import running
from modelseal.errors import ModelsealError
from modelseal.keys.answers import RETRIED, Answer, read_answer
from support.cli import run
from support.cli_models import plain_ir
from support.openbao import KeyService
from support.tokens import Issuer

pytestmark = pytest.mark.keys
PAGE = Path(__file__).resolve().parents[2] / "docs" / "keys.md"
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"(<!-- policy -->\n)(.*?)(<!-- end policy -->)", re.DOTALL)
ROW = re.compile(r"^\| (\d{3}) `([^`]+)` \| `(\w+)` \| (.+?) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyService]:
    """Start a server of its own, with the mounts that the page names, and an audit log."""
    folder = tmp_path_factory.mktemp("docs-keys")
    with running(folder, audit_log=folder / "audit.log") as server:
        yield KeyService(server=server, folder=folder)


def test_the_page_shows_what_policy_prints() -> None:
    result = run(
        *("policy", "--model", "vision/filetype", "--key", "vault:transit/vision_filetype"),
        *("--signing-key", "vault:transit/release"),
    )
    page = PAGE.read_text(encoding="utf-8")
    wanted = PRINTED.sub(lambda match: f"{match[1]}```text\n{result.out}```\n{match[3]}", page)
    if os.environ.get("MODELSEAL_WRITE_DOCS"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert wanted == PAGE.read_text(encoding="utf-8")


def test_every_command_of_the_page_runs_in_its_order(service: KeyService) -> None:
    folder = service.folder
    plain_ir(folder)
    (folder / "tiny.xml").rename(folder / "model.xml")
    (folder / "tiny.bin").rename(folder / "model.bin")
    (folder / "cluster-ca.pem").write_text(service.ca_file.read_text())
    (folder / "reviewer.jwt").write_text(Issuer().token("bao", "bao", "api"))
    (folder / "cluster.pub").write_text(Issuer().public_pem)
    (folder / "agents.log").write_text("")
    (folder / "objects.json").write_text(json.dumps({"items": []}))
    commands = SHELL.findall(PAGE.read_text(encoding="utf-8"))
    assert len(commands) == 10
    for text in commands:
        done = service.paste(prologue(service) + text, check=False)
        audit_found_the_verifications = "modelseal audit" in text and done.returncode == 4
        assert done.returncode == 0 or audit_found_the_verifications, f"{text}\n{done.stderr}"
        for made in re.findall(r"> (\S+\.sh)$", text, re.MULTILINE):
            if made == "setup.sh":
                service.paste(f"cd {folder}\n{(folder / made).read_text()}")
    assert (folder / "filetype-2.sealed" / "seal.json").is_file()
    assert (folder / "secret-id").stat().st_size > 30


def prologue(service: KeyService) -> str:
    """Return what a reader's shell has: a login, and the program."""
    program = shutil.which("modelseal", path=str(Path(sys.executable).parent))
    assert program is not None
    return (
        f"cd {service.folder}\nexport VAULT_ADDR=$BAO_ADDR VAULT_CACERT=$BAO_CACERT\n"
        f'export VAULT_TOKEN=$BAO_TOKEN\nmodelseal() {{ {program} "$@"; }}\n'
    )


def test_every_answer_of_the_page_has_the_reason_that_it_says() -> None:
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert len(rows) == 18
    for code, text, reason, again in rows:
        body = json.dumps({"errors": [text]}).encode()
        with pytest.raises(ModelsealError) as caught:
            read_answer(Answer(status=int(code), body=body, login=False))
        assert caught.value.reason == reason, (code, text)
        assert (int(code) in RETRIED) == again.startswith("yes")
    assert {int(row[0]) for row in rows} >= set(RETRIED) - {408, 504}


@pytest.mark.parametrize("code", [400, 403])
def test_a_refusal_at_the_login_is_access_denied(code: int) -> None:
    body = b'{"errors":["encryption key not found"]}'
    with pytest.raises(ModelsealError) as caught:
        read_answer(Answer(status=code, body=body, login=True))
    assert caught.value.reason == "KeyAccessDenied"
