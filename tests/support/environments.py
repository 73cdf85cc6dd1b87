"""Environments for clients that we did not write: each is built once, by hash of its list.

They lie in the user's cache folder (`~/.cache/modelseal/clients`), so that later runs need no
network. Where one cannot be had, its tests are skipped with the reason in one line, or fail where
`MODELSEAL_TEST_REQUIRE=all` is set.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.requirements import unavailable

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
READY = ".ready"


def cache() -> Path:
    """Return the folder of all environments."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "modelseal", "clients")


def environment(name: str, *, alone: bool = False) -> Path:
    """Return the environment of `tests/clients/NAME.txt`, built if it is not there.

    Args:
        name: which list.
        alone: install what the list names without what that depends on.

    """
    listed = CLIENTS / f"{name}.txt"
    key = hashlib.sha256(listed.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache() / f"{name}-{key}"
    if not (folder / READY).exists():
        cache().mkdir(parents=True, exist_ok=True)
        with (cache() / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / READY).exists():
                _build(folder, listed, alone=alone)
    return folder


def packages(folder: Path) -> Path:
    """Return where an environment keeps its packages."""
    return folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def run_client(name: str, script: str, *arguments: str, seconds: float = 240) -> Any:
    """Run `tests/clients/SCRIPT` in its environment; return what it prints as JSON."""
    python = environment(name) / "bin" / "python"
    done = subprocess.run(
        [python, CLIENTS / script, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{script} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def _build(folder: Path, listed: Path, *, alone: bool) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    tool = [sys.executable, "-m", "uv"]
    install = [*tool, "pip", "install", "-q", "--python", str(folder / "bin" / "python")]
    done = subprocess.run(
        [*tool, "venv", "-q", "--python", sys.executable, str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        options = ["--require-hashes", *(["--no-deps"] if alone else []), "-r", str(listed)]
        done = subprocess.run([*install, *options], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        unavailable(f"the environment {listed.stem} cannot be built: {said[-1] if said else '?'}")
    (folder / READY).touch()
