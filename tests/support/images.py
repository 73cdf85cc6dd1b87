"""The project's container images, built from its Containerfiles for a test cluster.

Where the public base images can be pulled they are used as anybody would use them. Elsewhere
tests/cluster/node-image/base.sh makes two that stand in for them, and the packages are downloaded
first, by their hashes, because such a machine's builds often have no network.

An image's tag is a hash of everything that went into it, so nothing is built twice.
"""

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelseal.cli.story.openbao import program as openbao
from support.binaries import SCRIPTS, CannotBuild

ROOT: Final = Path(__file__).resolve().parents[2]
_CACHES: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
CACHE: Final = _CACHES / "modelseal" / "cluster"
PARTS: Final = {"operator": "operator", "sidecar": "agent", "runtime": "runtime"}
"""Folder of each part, and what its image is called."""
_HOST_CA: Final = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True, kw_only=True)
class Images:
    """The names of what was built."""

    operator: str
    agent: str
    runtime: str
    openbao: str

    def all(self) -> tuple[str, ...]:
        """Return every name."""
        return self.operator, self.agent, self.runtime, self.openbao

    @classmethod
    def named(cls, names: Sequence[str]) -> "Images":
        """Return images by what another registry calls them, in the order of `all`."""
        operator, agent, runtime, openbao = names
        return cls(operator=operator, agent=agent, runtime=runtime, openbao=openbao)


@dataclass(frozen=True, kw_only=True)
class Bases:
    """What the Containerfiles start from; no names mean their own defaults."""

    builder: str | None = None
    base: str | None = None

    def arguments(self) -> list[str]:
        """Return docker's arguments that choose them."""
        given = {"BUILDER": self.builder, "BASE": self.base}
        return [f"--build-arg={key}={value}" for key, value in given.items() if value]


def missing() -> str | None:
    """Return in one line what has to be installed before images can be built, if anything."""
    if shutil.which("docker") is None or _docker("info", check=False).returncode:
        return "start a docker daemon (as root on Debian: tests/cluster/node-image/docker.sh)"
    return None


@functools.cache
def bases() -> Bases:
    """Return the public bases where they can be pulled, and else the locally built ones."""
    if not _docker("pull", "-q", _public_base(), check=False).returncode:
        return Bases()
    tag = run_script("base.sh")
    return Bases(builder=f"modelseal-local/builder:{tag}", base=f"modelseal-local/base:{tag}")


@functools.cache
def build_images() -> Images:
    """Build what is not there yet.

    Raises:
        CannotBuild: an image could not be built; the text says why.

    """
    names = {name: _part(part, name) for part, name in PARTS.items()}
    return Images(openbao=_openbao(), **names)


def run_script(name: str) -> str:
    """Run one of the scripts beside binaries.sh and return the last line that it prints."""
    done = subprocess.run([str(SCRIPTS / name)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise CannotBuild(done.stderr.strip() or f"failed to run {name}")
    return done.stdout.strip().splitlines()[-1]


def build(name: str, containerfile: str, files: Iterable[tuple[Path, str]], *arguments: str) -> str:
    """Build an image from a Containerfile's text and files; returns `name:hash`.

    Args:
        name: what the image is called.
        containerfile: its text.
        files: each file or folder with its path in the build's context.
        arguments: for `docker build`.

    """
    placed = list(files)
    tag = f"{name}:{_hash((containerfile, *arguments), placed)}"
    if not _docker("image", "inspect", tag, check=False).returncode:
        return tag
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        for source, path in placed:
            _place(source, context / path)
        (context / "Containerfile").write_text(containerfile)
        command = ["build", "-q", "-t", tag, "-f", str(context / "Containerfile"), *arguments]
        done = _docker(*command, folder, check=False)
    if done.returncode:
        raise CannotBuild(f"failed to build the image {name}: {done.stderr.strip()[-2000:]}")
    return tag


def also_named(name: str, other: str) -> str:
    """Give an image one more name; returns it."""
    _docker("tag", name, other)
    return other


def _part(part: str, name: str) -> str:
    text = _containerfile(part).read_text()
    files = [
        (ROOT / "src" / "modelseal", "src/modelseal"),
        (ROOT / part / "src", f"{part}/src"),
        (ROOT / "requirements" / f"{part}.txt", f"requirements/{part}.txt"),
    ]
    chosen = bases()
    if chosen.builder is None:
        return build(f"modelseal-{name}", text, files)
    wheels = _wheels(part, chosen.builder)
    offline = "--build-arg=PIP_ARGUMENTS=--no-index --find-links=/build/wheelhouse"
    files.append((wheels, "wheelhouse"))
    return build(f"modelseal-{name}", text, files, *chosen.arguments(), offline)


def _wheels(part: str, builder: str) -> Path:
    """Download a part's packages in the builder, whose Python they are for; returns the folder."""
    requirements = ROOT / "requirements" / f"{part}.txt"
    folder = CACHE / f"wheels-{_hash((builder,), [(requirements, part)])}"
    if folder.exists():
        return folder
    partial = Path(tempfile.mkdtemp(dir=CACHE))
    command = ["run", "--rm", "--network=host", f"--volume={partial}:/wheelhouse"]
    command += [f"--volume={requirements}:/requirements.txt:ro"]
    if _HOST_CA.exists():
        command += [f"--volume={_HOST_CA}:/host-ca.crt:ro", "--env=PIP_CERT=/host-ca.crt"]
    command += ["--env=PIP_INDEX_URL"] if "PIP_INDEX_URL" in os.environ else []
    command += [builder, "python3", "-m", "pip", "download", "-q", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--dest=/wheelhouse", "--requirement=/requirements.txt"]
    done = _docker(*command, check=False)
    if done.returncode:
        raise CannotBuild(f"failed to download the packages of {part}: {done.stderr.strip()}")
    partial.rename(folder)
    return folder


def _openbao() -> str:
    # the parts' own base, whose Python reads the audit log for the tests
    text = (
        f"ARG BASE={_public_base()}\nFROM ${{BASE}}\n"
        'COPY bao /usr/bin/bao\nUSER 10100:10100\nENTRYPOINT ["/usr/bin/bao"]\n'
    )
    base = [each for each in bases().arguments() if "=BASE=" in each]
    return build("modelseal-test-openbao", text, [(Path(openbao()), "bao")], *base)


def _public_base() -> str:
    (found,) = re.findall(r"^ARG BASE=(\S+)$", _containerfile("sidecar").read_text(), re.MULTILINE)
    return str(found)


def _containerfile(part: str) -> Path:
    return ROOT / part / "Containerfile"


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
        target.chmod(0o755 if target.name == "bao" else 0o644)


def _hash(texts: Sequence[str], files: Sequence[tuple[Path, str]]) -> str:
    state = hashlib.sha256(repr(texts).encode())
    for source, path in files:
        inside = sorted(source.rglob("*")) if source.is_dir() else [source]
        for each in inside:
            if each.is_file() and "__pycache__" not in each.parts:
                state.update(f"\0{path}/{each.relative_to(source)}\0".encode())
                state.update(hashlib.sha256(each.read_bytes()).digest())
    return state.hexdigest()[:12]


def _docker(*words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    # the classic builder is everywhere; newer command lines have BuildKit only with a plugin
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    return subprocess.run(
        ["docker", *words], check=check, capture_output=True, text=True, env=environment
    )
