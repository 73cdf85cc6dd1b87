"""What only a process of its own can show: memory, crashes, and what an import does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]


def run(script: str, *arguments: str, **environment: str) -> Any:
    """Run a script in a fresh interpreter and return what it prints as JSON."""
    environ = (
        os.environ | environment | {"PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"}
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        env=environ,
        capture_output=True,
        timeout=840,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr.decode()[-2000:])
    return json.loads(done.stdout)


OBSERVE_IMPORT = """
import json, sys
seen = []
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "os.fork", "subprocess.Popen", "os.mkdir"):
        seen.append(event)
        raise RuntimeError("refused by the test")
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        seen.append(f"open {arguments[0]}")
sys.addaudithook(hook)
import modelseal.engine
from modelseal.engine._openvino import ov
ov.Core().available_devices
print(json.dumps({"seen": seen, "loaded": "openvino_telemetry" in sys.modules}))
"""


def test_importing_the_engine_sends_nothing_forks_nothing_and_writes_nothing(
    tmp_path: Path,
) -> None:
    found = run(OBSERVE_IMPORT, HOME=str(tmp_path), PYTHONDONTWRITEBYTECODE="1")
    assert found == {"seen": [], "loaded": False}
    assert list(tmp_path.iterdir()) == []


WITHOUT_TELEMETRY = """
import json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "openvino_telemetry":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from modelseal.engine import LoadedModel
from support import models
import numpy as np
loaded = LoadedModel.load(models.views(models.perceptron()), release=lambda: None)
print(json.dumps(loaded.infer({"x": np.zeros((1, 64), np.float32)})["y"].shape))
"""


def test_the_engine_works_where_the_telemetry_package_is_not_installed() -> None:
    assert run(WITHOUT_TELEMETRY) == [1, 64]


PEAK = """
import json, sys
from pathlib import Path
import numpy as np
from modelseal.engine import LoadedModel
from modelseal.engine._openvino import ov
from modelseal.memory import PlaintextMemory, map_delivered
from support import models

way, folder, width = sys.argv[1], Path(sys.argv[2]), 2048
xml, weights = folder / "model.xml", folder / "model.bin"
config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
x = np.ones((1, width), np.float32)
size = weights.stat().st_size
base = models.resident_kib("VmRSS")
if way == "plain":
    compiled = ov.Core().compile_model(xml, "CPU", config)
    answer = compiled(x)[0]
else:
    memory = PlaintextMemory(size)
    with weights.open("rb") as stream:
        stream.readinto(memory.view[:size])
    memory.seal()
    with memoryview(map_delivered(memory.reader(), size)) as view:
        files = {"model.xml": memoryview(xml.read_bytes()), "model.bin": view[:size]}
        # The writer's pages and the reader's are the same memory; count them once.
        base += models.resident_kib("RssShmem")
        loaded = LoadedModel.load(files, release=lambda: None, config=config)
        answer = loaded.infer({"x": x})["y"]
peak = models.resident_kib("VmHWM") - base
print(json.dumps({"peak_kib": peak, "sum": float(answer.sum()), "size_kib": size // 1024}))
"""


def test_the_weights_are_never_there_twice(tmp_path: Path) -> None:
    """The peak is that of OpenVINO loading the plain file; a second copy would add the weights."""
    from support import models  # noqa: PLC0415 -- OpenVINO only where a test needs it

    for name, data in models.perceptron(width=2048, layers=6).items():
        (tmp_path / name).write_bytes(data)
    plain = run(PEAK, "plain", str(tmp_path))
    ours = run(PEAK, "delivered", str(tmp_path))
    assert ours["sum"] == plain["sum"]
    assert ours["peak_kib"] <= 1.05 * plain["peak_kib"] + 4096, (ours, plain)


STRESS = """
import ctypes, json, mmap, sys, threading, time
import numpy as np
from modelseal.engine import LoadedModel
from modelseal.errors import ModelClosed
from support import models

contents = models.perceptron(width=128, layers=3)
x = np.ones((4, 128), np.float32)
core = models.core()
reference = LoadedModel.load(models.views(contents), release=lambda: None, core=core)
expected = reference.infer({"x": x})["y"]
answered, refused, wrong = 0, 0, 0

def memory():
    shared = mmap.mmap(-1, len(contents["model.bin"]))
    shared.write(contents["model.bin"])
    return shared

def ask(loaded):
    global answered, refused, wrong
    while True:
        try:
            answer = loaded.infer({"x": x})["y"]
        except ModelClosed:
            refused += 1
            return
        answered += 1
        wrong += not np.array_equal(answer, expected)

for turn in range(int(sys.argv[1])):
    shared = memory()
    view = memoryview(shared)
    address = ctypes.addressof(ctypes.c_char.from_buffer(shared))
    released = threading.Event()
    def release(view=view, shared=shared, address=address, released=released):
        ctypes.memset(address, 0xFF, len(shared))  # NaN for whoever still reads
        view.release()
        released.set()
    files = {"model.xml": memoryview(contents["model.xml"]), "model.bin": view.toreadonly()}
    loaded = LoadedModel.load(files, release=release, core=core, requests=2, threads=1)
    askers = [threading.Thread(target=ask, args=(loaded,)) for _ in range(3)]
    for asker in askers:
        asker.start()
    before = answered
    while answered < before + 3:
        time.sleep(0)
    loaded.close(seconds=30 if turn % 2 else 0)
    for asker in askers:
        asker.join()
    assert released.wait(30)
    del files, loaded
    if turn == int(sys.argv[1]) // 2:
        half = models.resident_kib("VmRSS")
grown = models.resident_kib("VmRSS") - half
print(json.dumps({"answered": answered, "refused": refused, "wrong": wrong, "grown": grown}))
"""


@pytest.mark.timeout(900)
def test_a_model_unloaded_under_load_neither_crashes_nor_answers_wrong() -> None:
    turns = 1000
    found = run(STRESS, str(turns))
    assert found["wrong"] == 0
    assert found["refused"] == 3 * turns
    assert found["answered"] >= 3 * turns
    assert found["grown"] < 32 << 10, "KiB that five hundred unloaded models left behind"


SIGNALLED = """
import faulthandler, json, os, signal, sys, threading
faulthandler.enable()  # gives this thread a signal stack, as applications do
from modelseal.engine import LoadedModel
from support import models
loaded = LoadedModel.load(models.views(models.perceptron()), release=lambda: None)
closing = threading.Thread(target=loaded.close)
closing.start()
closing.join()
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append("SIGTERM"))
os.kill(os.getpid(), signal.SIGTERM)
print(json.dumps(heard))
"""


def test_a_signal_reaches_its_handler_after_a_model_was_closed_in_another_thread() -> None:
    assert run(SIGNALLED) == ["SIGTERM"]
