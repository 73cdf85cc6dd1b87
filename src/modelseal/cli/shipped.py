"""Programs of ours that run in a pod whose image has Python and perhaps nothing of modelseal.

They are standard library alone, and go there through `kubectl exec`.
"""

import io
import zipfile
from collections.abc import Sequence
from importlib import resources
from typing import Final

WAIT: Final = (
    "python3",
    "-c",
    "import signal; signal.signal(15, lambda *_: exit()); signal.pause()",
)
"""What a pod's container runs until it is deleted."""


def archive(main: str, modules: Sequence[str]) -> bytes:
    """Return a zip that Python runs: the modules, and `main()` of one of them."""
    content = io.BytesIO()
    folders = {
        "/".join(parts[:end])
        for parts in (module.split(".") for module in modules)
        for end in range(1, len(parts))
    }
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("__main__.py", f"from {main} import main\nmain()\n")
        for folder in sorted(folders):
            file.writestr(f"{folder}/__init__.py", "")
        for module in modules:
            file.writestr(f"{module.replace('.', '/')}.py", _source(module))
    return content.getvalue()


def keep(path: str) -> tuple[str, str]:
    """Return how Python is told to keep what it is given in a file."""
    return "-c", f"import sys; open({path!r}, 'wb').write(sys.stdin.buffer.read())"


def _source(module: str) -> str:
    package, _, name = module.rpartition(".")
    return (resources.files(package) / f"{name}.py").read_text(encoding="utf-8")
