"""Coverage-guided fuzzing of one target with Atheris, which is not among the pinned packages.

    .venv/bin/pip install atheris
    .venv/bin/python tests/fuzz/guided.py TARGET FOLDER [libFuzzer's options]

Begins with the committed inputs, which are unpacked into FOLDER; new inputs that reach new code are
written there too, and a crash to the current folder. `corpus.py` takes FOLDER's content back.
"""

import sys
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

with atheris.instrument_imports(include=["modelseal", "modelseal_operator", "modelseal_runtime"]):
    from fuzz import corpus
    from fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until libFuzzer's options end it."""
    name, folder, *options = sys.argv[1:]
    check = TARGETS[name]
    corpus.unpack(name, Path(folder))

    def once(data: bytes) -> None:
        check(data)

    atheris.Setup([sys.argv[0], folder, *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
