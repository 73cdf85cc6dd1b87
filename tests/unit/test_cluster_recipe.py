"""The recipe of the test clusters: what the helper names is what the scripts build."""

import re
import subprocess
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
