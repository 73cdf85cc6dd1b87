"""A kubectl whose cluster is one claim, which is a folder, and whose pods run here.

    python -m support.local_kubectl FOLDER WORDS...

It keeps what it is told in FOLDER: `claim` is the volume, `applied` the pod, `log` each call.
For what a real cluster cannot be made to do at the right moment; the real one is in e2e_kind.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

AGENT: Final = {"name": "agent", "image": "registry.example/agent:1"}


def main() -> None:
    """Do what the words say."""
    folder, words = Path(sys.argv[1]), [word for word in sys.argv[2:] if "--namespace" not in word]
    with (folder / "log").open("a") as log:
        log.write(json.dumps(words) + "\n")
    verb, kind = words[0], words[1]
    if verb == "get" and kind == "persistentvolumeclaim":
        if words[2] == "models":
            json.dump({"metadata": {}}, sys.stdout)
    elif verb == "get" and kind == "pods":
        json.dump({"items": [user()] if (folder / "in-use").exists() else []}, sys.stdout)
    elif verb == "get" and kind == "pod":
        json.dump({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, sys.stdout)
    elif verb == "get":
        json.dump({"items": []}, sys.stdout)
    elif verb == "apply":
        (folder / "applied").write_bytes(sys.stdin.buffer.read())
    elif verb == "exec":
        sys.exit(executed(folder, words[words.index("python3") + 1 :]))
    else:
        assert verb == "delete", words


def user() -> dict[str, object]:
    """Return a pod that serves from the claim."""
    volume = {"name": "models", "persistentVolumeClaim": {"claimName": "models"}}
    return {
        "spec": {"nodeName": "node-7", "containers": [AGENT], "volumes": [volume]},
        "status": {"phase": "Running"},
    }


def executed(folder: Path, words: list[str]) -> int:
    """Run Python with the pod's paths turned into ours."""
    given = sys.stdin.buffer.read()
    program = words[-1] == "/program/claim.zip"
    if program:
        given = given.replace(b'"/models/', f'"{folder}/claim/'.encode())
    words = [word.replace("/program/", f"{folder}/") for word in words]
    meanwhile = folder / "meanwhile.py"
    if program and b'"orders"' in given and meanwhile.exists():
        subprocess.run([sys.executable, str(meanwhile)], cwd=folder, check=True)
    return subprocess.run([sys.executable, "-I", "-S", *words], input=given, check=False).returncode


if __name__ == "__main__":
    main()
