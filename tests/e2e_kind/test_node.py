"""A look from the node's own root: the plaintext is on no disk."""

import numpy as np
import pytest

from modelseal.engine._openvino import ov
from support.kind_place import Place

pytestmark = [
    pytest.mark.kind,
    pytest.mark.node("reads the node's disks as root"),
    pytest.mark.timeout(600),
]
CANARY = b"modelseal-canary-of-the-weights!"
"""Eight floats' bytes, which occur in no other file of the node."""
_IN_MEMORY = "tmpfs,ramfs,proc,sysfs,cgroup,cgroup2,devpts,mqueue,devtmpfs,hugetlbfs"
_HUNT = f"""
findmnt -rn --invert -t {_IN_MEMORY} -o TARGET | sort -u | while read -r mount; do
  [ ! -d "$mount" ] || find "$mount" -xdev -type f -size +31c -print0
done | xargs -0 grep -lF -e "$1" -- 2>/dev/null || true
"""


@pytest.fixture
def weighed(place: Place) -> Place:
    """Serve a model whose weights hold the canary, and ask it."""
    x = ov.opset13.parameter([-1, 8], ov.Type.f32, name="x")
    weights = np.frombuffer(CANARY * 4096, dtype=np.float32).reshape(4096, 8)
    y = ov.opset13.matmul(x, weights, False, True)
    path = place.folder / "canary.xml"
    ov.serialize(ov.Model([y], [x], "canary"), path, path.with_suffix(".bin"))
    place.provide()
    place.put(place.seal(source=path), "filetype/1")
    place.apply()
    place.until_ready()
    return place


def test_no_disk_of_the_node_holds_a_weight_while_the_model_is_served(weighed: Place) -> None:
    node = weighed.cluster
    planted = "/var/lib/kubelet/planted"
    try:
        node.on_node("sh", "-c", f"cat >{planted}", given=b"\0" * 4096 + CANARY)
        assert hunt(weighed) == [planted]
    finally:
        node.on_node("rm", "-f", planted)
    assert weighed.folder.joinpath("canary.bin").read_bytes().count(CANARY) == 4096


def hunt(place: Place) -> list[str]:
    """Return the files on the node's disk-backed file systems that hold the canary."""
    found = place.cluster.on_node("sh", "-c", _HUNT, "hunt", CANARY.decode())
    return found.splitlines()
