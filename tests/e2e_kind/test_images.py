"""What the three images hold, and what they do not need."""

import subprocess

import pytest

from support import images as building
from support import kind

pytestmark = [pytest.mark.kind, pytest.mark.timeout(900)]
PARTS = ("operator", "agent", "runtime")
FORBIDDEN = {
    "operator": {"openvino", "numpy", "cryptography", "hvac", "modelseal.keys", "modelseal.engine"},
    "agent": {"openvino", "numpy", "kopf", "kubernetes", "modelseal.engine", "modelseal.cli"},
    "runtime": {"hvac", "cryptography", "requests", "kopf", "modelseal.keys", "modelseal.envelope"},
}
UID = {"operator": "10000", "agent": "10001", "runtime": "10002"}


@pytest.fixture(scope="module")
def built(cluster: kind.Cluster) -> building.Images:
    return building.build_images()


def inside(image: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run something in an image as a pod would: read-only, without rights, without network."""
    limits = ("--read-only", "--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges")
    command = ["docker", "run", "--rm", *limits, f"--entrypoint={words[0]}", image, *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def python(image: str, program: str) -> str:
    done = inside(image, "python3", "-c", program)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("part", PARTS)
def test_an_image_holds_its_program_and_nothing_of_the_others(
    built: building.Images, part: str
) -> None:
    asked = sorted(FORBIDDEN[part] | {"pip", "setuptools"})
    program = (
        "import importlib.util as u\n"
        "def there(name):\n"
        "    try: return u.find_spec(name) is not None\n"
        "    except ModuleNotFoundError: return False\n"
        f"print([name for name in {asked} if there(name)])"
    )
    assert python(getattr(built, part), program) == "[]"


@pytest.mark.parametrize("part", PARTS)
def test_an_image_runs_as_a_user_of_its_own_that_is_not_root(
    built: building.Images, part: str
) -> None:
    assert python(getattr(built, part), "import os; print(os.getuid())") == UID[part]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("tool", ["sh", "bash", "pip", "apt", "curl", "tar"])
def test_an_image_has_no_shell_and_no_tools(built: building.Images, part: str, tool: str) -> None:
    assert "executable file not found" in inside(getattr(built, part), tool).stderr


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("operator", "MODELSEAL_OPERATOR_AGENT_IMAGE is not set"),
        ("agent", "MODELSEAL_MODEL"),
        ("runtime", "MODELSEAL_PEER_UID"),
    ],
)
def test_a_program_starts_read_only_and_says_which_setting_is_missing(
    built: building.Images, part: str, says: str
) -> None:
    module = {"operator": "modelseal_operator", "agent": "modelseal_sidecar"}
    words = ("python3", "-m", module.get(part, "modelseal_runtime"))
    done = inside(getattr(built, part), *words, *(["run"] if part == "operator" else []))
    assert 10 <= done.returncode < 20
    assert says in done.stderr
    assert "Traceback" not in done.stderr
