"""The queue, the store, the comparison and the waves that the operator's loop is made of."""

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelseal.contract import LABEL_MODEL
from modelseal_operator.applying import owned_by_apply
from modelseal_operator.children import build_children
from modelseal_operator.compare import contains
from modelseal_operator.queue import FIRST_BACKOFF, LAST_BACKOFF, KeyedQueue
from modelseal_operator.store import Key, Place, Store
from modelseal_operator.waves import Rolling, Waves
from support.operator_objects import context, model_object, provider_object

A, B, C, D = (Key("ns", name) for name in "abcd")


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(scenario: Callable[[KeyedQueue[str], Clock], Awaitable[None]]) -> None:
    async def main() -> None:
        clock = Clock()
        await asyncio.wait_for(scenario(KeyedQueue(clock, jitter=lambda: 0.5), clock), 5)

    asyncio.run(main())


def test_a_key_that_is_added_often_runs_once() -> None:
    async def scenario(queue: KeyedQueue[str], _: Clock) -> None:
        for _number in range(5):
            queue.add("a")
        queue.add("b")
        assert await queue.get() == "a"
        assert await queue.get() == "b"
        assert len(queue) == 0

    run(scenario)


def test_a_key_is_never_worked_on_twice_at_once_and_runs_again_afterwards() -> None:
    async def scenario(queue: KeyedQueue[str], clock: Clock) -> None:
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a")
        assert not queue.idle
        queue.add("b")
        assert await queue.get() == "b"
        queue.done("a")
        clock.now += 1
        assert await queue.get() == "a"

    run(scenario)


def test_an_earlier_wish_counts_over_a_later_one() -> None:
    async def scenario(queue: KeyedQueue[str], clock: Clock) -> None:
        queue.add("a", 60)
        queue.add("a", 1)
        queue.add("a", 30)
        clock.now += 2
        assert await queue.get() == "a"
        queue.done("a")
        clock.now += 100
        queue.add("b")
        assert await queue.get() == "b"
        assert len(queue) == 0

    run(scenario)


def test_failures_wait_longer_each_time_and_success_forgets_them() -> None:
    async def scenario(queue: KeyedQueue[str], _: Clock) -> None:
        delays = [queue.retry("a") for _ in range(20)]
        assert delays[0] == FIRST_BACKOFF
        assert delays == sorted(delays)
        assert delays[-1] == LAST_BACKOFF
        queue.forget("a")
        assert queue.retry("a") == FIRST_BACKOFF
        assert queue.retry("b", at_least=7) == 7

    run(scenario)


def test_the_age_is_that_of_the_oldest_due_key() -> None:
    async def scenario(queue: KeyedQueue[str], clock: Clock) -> None:
        queue.add("a")
        queue.add("b")
        await queue.get()
        clock.now += 9
        assert queue.age == 9

    run(scenario)


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.floats(min_value=0, max_value=9)), max_size=30)
)
def test_every_added_key_comes_out(adds: list[tuple[str, float]]) -> None:
    async def scenario(queue: KeyedQueue[str], clock: Clock) -> None:
        for key, delay in adds:
            queue.add(key, delay)
        clock.now += 10
        out = [await queue.get() for _ in {key for key, _ in adds}]
        assert sorted(out) == sorted({key for key, _ in adds})

    run(scenario)


def stored(version: int, **metadata: object) -> dict[str, Any]:
    found = model_object()
    found["metadata"] |= {"resourceVersion": str(version), **metadata}
    return found


def test_an_older_event_never_replaces_a_newer_object() -> None:
    store = Store()
    key = Key("vision", "filetype")
    assert store.put("EncryptedModel", stored(9, generation=2)) == {key}
    assert store.put("EncryptedModel", stored(7, generation=1)) == set()
    found = store.get(Place("EncryptedModel", *key))
    assert found is not None
    assert found["metadata"]["generation"] == 2


def test_a_provider_leads_to_the_models_that_use_it() -> None:
    store = Store()
    key = Key("vision", "filetype")
    store.put("EncryptedModel", stored(1))
    assert store.put("KeyProvider", provider_object()) == {key}
    changed = stored(2)
    changed["spec"]["keyProviderRef"] = {"kind": "ClusterKeyProvider", "name": "company"}
    store.put("EncryptedModel", changed)
    assert store.put("KeyProvider", provider_object() | {"x": 1}) == set()
    assert store.concerned("ClusterKeyProvider", {"metadata": {"name": "company"}}) == {key}
    store.remove("EncryptedModel", changed)
    assert store.concerned("ClusterKeyProvider", {"metadata": {"name": "company"}}) == set()


def test_a_child_leads_to_its_model_and_leaves_with_it() -> None:
    store = Store()
    pod = {
        "metadata": {
            "name": "p",
            "namespace": "vision",
            "resourceVersion": "3",
            "labels": {LABEL_MODEL: "filetype"},
            "managedFields": [{"manager": "kubelet"}],
        },
        "spec": {"hostNetwork": True, "containers": [{"env": ["much"]}]},
    }
    key = Key("vision", "filetype")
    assert store.put("Pod", pod) == {key}
    ((place, kept),) = store.members(key).items()
    assert place == Place("Pod", "vision", "p")
    assert kept["spec"] == {"hostNetwork": True}
    assert "managedFields" not in kept["metadata"]
    assert store.remove("Pod", pod) == {key}
    assert len(store) == 0


def labelled(version: int, model: str) -> dict[str, Any]:
    labels = {LABEL_MODEL: model}
    where = {"name": "p", "namespace": "vision", "resourceVersion": str(version)}
    return {"metadata": {**where, "labels": labels}}


def test_an_object_that_somebody_relabels_concerns_both_models_and_leaves_the_first() -> None:
    store = Store()
    one, two = Key("vision", "one"), Key("vision", "two")
    store.put("Pod", labelled(3, "one"))
    assert store.put("Pod", labelled(4, "two")) == {one, two}
    assert list(store.members(one)) == []
    assert list(store.members(two)) == [Place("Pod", "vision", "p")]
    assert store.remove("Pod", labelled(5, "two")) == {two}
    assert list(store.members(one)) == list(store.members(two)) == []


def test_the_end_of_an_earlier_object_does_not_end_its_successor() -> None:
    store = Store()
    store.put("Pod", labelled(9, "one"))
    assert store.remove("Pod", labelled(8, "one")) == set()
    assert len(store) == 1


def test_offered_resources_are_those_that_a_node_has_some_of() -> None:
    store = Store()
    node = {
        "metadata": {"name": "n", "resourceVersion": "1"},
        "status": {"allocatable": {"npu.intel.com/accel": "1", "gpu.intel.com/xe": "0"}},
    }
    store.put("Node", node)
    assert store.offered() == {"npu.intel.com/accel"}


CHILDREN = build_children(context())
IDS = [f"{child['kind']}-{number}" for number, child in enumerate(CHILDREN)]


@pytest.mark.parametrize("child", CHILDREN, ids=IDS)
def test_defaults_and_foreign_fields_do_not_make_a_child_differ(child: dict[str, Any]) -> None:
    live = copy.deepcopy(child)
    live["metadata"] |= {"uid": "x", "resourceVersion": "5", "finalizers": ["a/b"]}
    live["metadata"]["labels"]["foreign"] = "1"
    live["status"] = {"anything": True}
    if child["kind"] == "Deployment":
        pod = live["spec"]["template"]["spec"]
        pod["schedulerName"] = "default-scheduler"
        pod["containers"].append({"name": "mesh", "image": "x"})
        pod["containers"][0]["env"].insert(0, {"name": "FOREIGN", "value": "1"})
    assert contains(live, child)


@pytest.mark.parametrize(
    "path",
    [
        ("spec", "replicas"),
        ("spec", "template", "spec", "automountServiceAccountToken"),
        ("spec", "template", "spec", "containers", 0, "image"),
        ("spec", "template", "spec", "initContainers", 0, "env", 3, "value"),
        ("spec", "template", "spec", "volumes", 0, "emptyDir", "medium"),
        ("metadata", "ownerReferences", 0, "controller"),
        ("metadata", "annotations", "modelseal.dev/desired-hash"),
    ],
)
def test_every_edit_of_an_owned_field_is_seen(path: tuple[Any, ...]) -> None:
    desired = next(c for c in CHILDREN if c["kind"] == "Deployment")
    live: Any = copy.deepcopy(desired)
    place = live
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = "edited"
    assert not contains(live, desired)
    del place[path[-1]]
    assert not contains(live, desired)


@pytest.mark.parametrize("child", CHILDREN, ids=IDS)
def test_a_label_that_is_added_to_a_selector_is_seen(child: dict[str, Any]) -> None:
    selector = {"NetworkPolicy": "podSelector"}.get(child["kind"], "selector")
    if selector not in child.get("spec", {}):
        assert child["kind"] == "ConfigMap"
        return
    live = copy.deepcopy(child)
    found = live["spec"][selector]
    found.get("matchLabels", found)["foreign"] = "1"
    assert not contains(live, child)


def test_a_rule_that_is_widened_in_a_policy_is_seen() -> None:
    (policy,) = (child for child in CHILDREN if child["kind"] == "NetworkPolicy")
    live = copy.deepcopy(policy)
    live["spec"]["ingress"][0]["ports"][0]["endPort"] = 65535
    assert not contains(live, policy)


def manager(name: str, operation: str, **more: object) -> dict[str, Any]:
    return {"manager": name, "operation": operation, "fieldsV1": {"f:spec": {}}, **more}


def test_what_we_created_becomes_ours_by_apply_so_that_apply_can_remove_it() -> None:
    ours, others = "modelseal-operator", manager("kubectl", "Update")
    status = manager(ours, "Update", subresource="status")
    applied = manager(ours, "Apply")
    created = [manager(ours, "Update"), others, status]
    assert owned_by_apply(created) == [others, status, applied]
    assert owned_by_apply([applied, *created]) == [applied, others, status]
    assert owned_by_apply([applied, others, status]) == [applied, others, status]


def test_at_most_so_many_models_roll_at_once() -> None:
    waves = Waves(2)
    waves.open()
    assert [waves.may_start(key) for key in (A, B, C)] == [True, True, False]
    assert waves.may_start(A)
    assert waves.observe(A, Rolling.ROLLING) == frozenset()
    assert waves.observe(A, Rolling.SETTLED) == {C}
    assert waves.may_start(C)
    assert waves.waiting == frozenset()


def test_a_failure_stops_the_others_until_it_is_overcome() -> None:
    waves = Waves(3)
    waves.open()
    assert waves.may_start(A)
    waves.observe(A, Rolling.FAILED)
    assert not waves.may_start(B)
    assert waves.observe(A, Rolling.SETTLED) == {B}
    assert waves.may_start(B)


def test_a_model_that_is_deleted_gives_its_place_free() -> None:
    waves = Waves(1)
    waves.open()
    assert waves.may_start(A)
    assert not waves.may_start(B)
    assert waves.forget(A) == {B}
    assert waves.may_start(B)


def test_nothing_starts_before_every_model_has_been_seen() -> None:
    waves = Waves(3)
    assert not waves.may_start(A)
    assert waves.open() == {A}
    assert waves.may_start(A)


def test_what_rolled_before_a_restart_counts() -> None:
    waves = Waves(1)
    waves.observe(A, Rolling.ROLLING)
    waves.open()
    assert not waves.may_start(B)


@given(st.lists(st.tuples(st.sampled_from([A, B, C, D]), st.sampled_from([*Rolling, None]))))
def test_the_bound_holds_whatever_happens(steps: list[tuple[Key, Rolling | None]]) -> None:
    waves, running = Waves(2), set[Key]()
    waves.open()
    for key, state in steps:
        if state is None:
            if waves.may_start(key):
                running.add(key)
        elif key in running:
            waves.observe(key, state)
            if state is Rolling.SETTLED:
                running.discard(key)
        assert len(running) <= 2
