"""What magika itself says of files: asked in a process with a home of its own.

Importing magika imports another inference runtime, which writes a device id into the home.

    python -m support.cli_magika < {"name": "base64", ...}
"""

import base64
import json
import sys
from typing import Any


class InMemory:
    """What magika calls a seekable."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return a part of the content."""
        return self._content[offset : offset + size]


def look(magika: Any, content: bytes, sizes: dict[str, Any]) -> dict[str, Any]:
    """Return magika's features and label of one content."""
    features = magika._extract_features_from_seekable(InMemory(content), **sizes)
    return {
        "features": [*features.beg, *features.end],
        "label": str(magika.identify_bytes(content).dl.label),
    }


def main() -> None:
    """Answer for each of the contents on stdin."""
    from magika import Magika  # noqa: PLC0415 - only in the process of its own

    sizes = {
        "beg_size": 1024,
        "mid_size": 0,
        "end_size": 1024,
        "padding_token": 256,
        "block_size": 4096,
        "use_inputs_at_offsets": False,
    }
    magika = Magika()
    contents = {name: base64.b64decode(text) for name, text in json.load(sys.stdin).items()}
    found = {name: look(magika, content, sizes) for name, content in contents.items()}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
