"""Small real files for the demo to ask about: made here, so that nothing has to be found."""

import gzip
import io
import json
import struct
import textwrap
import zipfile
import zlib
from collections.abc import Mapping
from typing import Final

_PYTHON: Final = textwrap.dedent('''\
    """Count the words of a text."""

    import collections
    import sys


    def main() -> None:
        words = collections.Counter(sys.stdin.read().split())
        for word, count in words.most_common(10):
            print(f"{count:6} {word}")


    if __name__ == "__main__":
        main()
''')

_SHELL: Final = textwrap.dedent("""\
    #!/bin/sh
    set -eu
    for file in "$@"; do
      if [ -f "$file" ]; then
        gzip -9 --keep "$file" && echo "packed $file"
      fi
    done
""")

_HTML: Final = textwrap.dedent("""\
    <!DOCTYPE html>
    <html lang="en">
      <head><meta charset="utf-8"><title>Opening hours</title></head>
      <body><h1>Opening hours</h1><p>Monday to Friday, <b>9 to 17</b>.</p></body>
    </html>
""")


def samples() -> Mapping[str, bytes]:
    """Return files by name; the part before the dot is what magika should call them."""
    return {
        "python.py": _PYTHON.encode(),
        "shell.sh": _SHELL.encode(),
        "html.html": _HTML.encode(),
        "json.json": _json().encode(),
        "png.png": _png(),
        "zip.zip": _zip(),
        "gzip.gz": gzip.compress(_PYTHON.encode() * 4, mtime=0),
    }


def _json() -> str:
    stations = [{"id": n, "name": f"station {n}", "open": n % 3 > 0} for n in range(12)]
    return json.dumps({"updated": "2026-11-01", "stations": stations}, indent=2)


def _png() -> bytes:
    """Return a picture of 32 x 32 pixels with a gradient."""
    rows = b"".join(
        b"\0" + bytes(v for x in range(32) for v in (x * 8, y * 8, 128)) for y in range(32)
    )
    header = struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _zip() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("count/words.py", _PYTHON)
        packed.writestr("hours/index.html", _HTML)
    return archive.getvalue()
