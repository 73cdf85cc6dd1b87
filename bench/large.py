"""Models of several GiB: the memory that sealing and opening need beyond the model itself."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.findings import Curves, Effort, Findings, Row
from modelseal.keys.local import generate_key_file

TITLE = "Large models"
ROOT = Path(__file__).resolve().parents[1]
SIZES = (256, 1024, 2048, 4096)
MODEL = "bench/large"
_PIECE = 64 << 20


def measure(effort: Effort) -> Findings:
    """Seal and open models of growing size, each in a process of its own."""
    sealing, opening = [], []
    for megabytes in (size for size in SIZES if size <= 4 * effort.megabytes):
        with tempfile.TemporaryDirectory(prefix="modelseal-bench-", dir="/var/tmp") as name:
            peaks = _peaks(Path(name), megabytes)
        sealing.append((float(megabytes), peaks["seal"]))
        opening.append((float(megabytes), peaks["open"] - megabytes))
    lines = {"sealing: peak": sealing, "opening: peak less the model": opening}
    rows = [
        Row(
            question=f"{what} {largest:,.0f} MiB, {which}",
            unit="MiB",
            values={"memory": [points[-1][1]], "256 MiB model": [points[0][1]]},
            ours="memory",
            baseline="256 MiB model",
            target="≈ 1",
            limit="Python and its libraries, and 4 to 8 MiB for each thread",
        )
        for what, which, points in (
            ("sealing", "peak", sealing),
            ("opening", "peak less the model", opening),
        )
        for largest in (points[-1][0],)
    ]
    curve = Curves(
        name="memory",
        title="Memory beyond the model, by its size",
        x="MiB of weights",
        y="MiB resident",
        lines=lines,
    )
    return Findings(rows=rows, curves=[curve])


def _peaks(folder: Path, megabytes: int) -> dict[str, float]:
    """Return the peaks in MiB of sealing and of opening one model."""
    generate_key_file(folder / "key")
    (folder / "large.xml").write_text('<?xml version="1.0"?><net name="large" version="11"/>')
    piece = os.urandom(_PIECE)
    with (folder / "large.bin").open("wb") as file:
        for _ in range(megabytes * (1 << 20) // _PIECE):
            file.write(piece)
    return {what: _child(what, folder) for what in ("seal", "open")}


def _child(what: str, folder: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "bench.large", what, str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    peak: float = json.loads(done.stdout.splitlines()[-1])
    return peak


def _main() -> None:
    what, name = sys.argv[1:]
    folder = Path(name)
    if what == "seal":
        _seal(folder)
    else:
        _open(folder)
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def _seal(folder: Path) -> None:
    from modelseal.cli.main import main  # noqa: PLC0415 - what users run, in its own process

    words = ("--model", MODEL, "--version", "1", "--key", f"file:{folder / 'key'}", "--json")
    assert main(["seal", str(folder / "large.xml"), "-o", str(folder / "sealed"), *words]) == 0


def _open(folder: Path) -> None:
    import modelseal  # noqa: PLC0415 - counted

    key = f"file:{folder / 'key'}"
    with modelseal.open(folder / "sealed", key=key, model=MODEL, allow_unsigned=True) as sealed:
        assert sum(len(sealed.read(path)) for path in sealed.files) > 0
    shutil.rmtree(folder / "sealed")


if __name__ == "__main__":
    _main()
