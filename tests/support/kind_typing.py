"""A reader of a page of the documentation, who types what stands there into a shell."""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from modelseal.cli.story.openbao import program as openbao
from support.binaries import binary
from support.kind_openbao import ClusterKeyService
from support.kube import Kube

ROOT: Final = Path(__file__).resolve().parents[2]
_BLOCK: Final = re.compile(r"^ *```([a-z]+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_TRAP: Final = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"


def blocks(page: str, heading: str, kind: str = "sh") -> list[str]:
    """Return the blocks of a kind below a heading, as they stand there."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = [body for name, body in _BLOCK.findall(section) if name == kind]
    assert found, f"there is no {kind} below {heading}"
    return found


def inline(page: str, words: str) -> str:
    """Return the command between backticks that begins with these words."""
    (found,) = set(re.findall(rf"`({re.escape(words)}[^`]*)`", page))
    return str(found)


def document(text: str, **spec: Any) -> dict[str, Any]:
    """Return a resource with some of its spec's fields changed, one level deep."""
    raw: dict[str, Any] = yaml.safe_load(text)
    for name, value in spec.items():
        raw["spec"][name] = {**raw["spec"][name], **value} if isinstance(value, dict) else value
    return raw


@dataclass(frozen=True, kw_only=True)
class Typist:
    """A shell in a folder that has the chart, with the rights of both administrators."""

    folder: Path
    kube: Kube
    bao: ClusterKeyService

    def __post_init__(self) -> None:
        (self.folder / "charts").symlink_to(ROOT / "charts")
        (self.folder / "bin").mkdir()
        (self.folder / "bin" / "bao").symlink_to(openbao())
        (self.folder / "bin" / "kubectl").symlink_to(self.kube.program)
        (self.folder / "bin" / "helm").symlink_to(binary("helm"))
        (self.folder / "bin" / "modelseal").symlink_to(Path(sys.executable).with_name("modelseal"))

    def types(self, text: str, token: str = "") -> str:
        """Run commands, as root of the key service or with a token of it; returns what was said."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", _TRAP + text],
            cwd=self.folder,
            env=self._environment(token),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _environment(self, token: str) -> Mapping[str, str]:
        keys = self.bao.keys
        where = {"ADDR": keys.address, "CACERT": str(keys.ca_file)}
        where["TOKEN"] = token or keys.server.root_token
        both = {f"{name}_{key}": value for name in ("BAO", "VAULT") for key, value in where.items()}
        path = f"{self.folder / 'bin'}:/usr/bin:/bin"
        home = {"HOME": str(self.folder), "KUBECONFIG": str(self.kube.kubeconfig.absolute())}
        return {"PATH": path, "LANG": "C.UTF-8", **home, **both}
