"""The README's cluster section, typed as it stands there."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from support import kind
from support.binaries import binary

pytestmark = [
    pytest.mark.kind,
    pytest.mark.node("makes a kind cluster of its own"),
    pytest.mark.timeout(900),
]
ROOT = Path(__file__).resolve().parents[2]
SECTION = re.compile(r"^## In a cluster$(.*?)^## ", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands() -> str:
    """Return what the section tells a reader to type."""
    section = SECTION.search((ROOT / "README.md").read_text())
    assert section is not None
    (text,) = COMMANDS.findall(section[1])
    return str(text)


def test_the_cluster_section_of_the_readme_works_as_typed(cluster: kind.Cluster) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(binary('kubectl')).parent}:{os.environ['PATH']}",
        "MAKEFLAGS": "",
    }
    # the forwarding has usually ended with the cluster
    script = f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{commands()}"
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    finally:
        subprocess.run(["make", "cluster-down"], cwd=ROOT, check=False, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^filetype +True +Serving ", done.stdout, re.MULTILINE)
    assert re.search(r"^filetype +False +KeyAccessDenied ", done.stdout, re.MULTILINE)
    begin = done.stdout.index('{"name"')  # curl ends it with no line's end
    described, _ = json.JSONDecoder().raw_decode(done.stdout, begin)
    assert described["inputs"][0]["datatype"] == "INT32"
