"""What tenants and admins write becomes a value or one named refusal, and never anything else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelseal.contract import Delivery, Reason
from modelseal_operator.children import Context, build_children
from modelseal_operator.devices import PATIENCE, choose_device
from modelseal_operator.provider import parse_provider
from modelseal_operator.refusal import Refusal
from modelseal_operator.resolve import Resolved, resolve
from modelseal_operator.resource import parse_model
from support.mutation import mutated
from support.operator_objects import (
    OTHER_SIGNER,
    PODS,
    SIGNER,
    Json,
    cluster_provider_object,
    context,
    example,
    merged,
    model_object,
    provider_object,
    resolved,
)


def refused(model: Json, provider: Json | None = None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        resolved(model, provider)
    return caught.value


def test_the_smallest_resource_has_a_right_default_for_everything() -> None:
    model = parse_model(model_object())
    assert (model.replicas, model.suspend, model.delivery) == (1, False, Delivery.MEMFD)
    assert model.model_size == 512 << 20
    assert model.compiled_size == 2 * model.model_size
    assert model.serving.model_name == "filetype"
    assert model.devices == ("CPU",)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        pytest.param({"model": {"name": "Vision/x"}}, "model.name", id="upper case owner"),
        pytest.param({"model": {"name": "x"}}, "model.name", id="no owner"),
        pytest.param({"model": {"name": "a/b\n"}}, "model.name", id="newline after the name"),
        pytest.param({"serviceAccountName": "default"}, "serviceAccountName", id="default account"),
        pytest.param({"source": {}}, "", id="a source beside the claim is needed at most once"),
        pytest.param({"source": {"persistentVolumeClaim": {"path": "../x"}}}, "path", id="parent"),
        pytest.param({"source": {"http": {"url": "http://a@b/"}}}, "exactly one", id="two sources"),
        pytest.param({"modelSize": "-1"}, "modelSize", id="negative size"),
        pytest.param({"modelSize": True}, "modelSize", id="boolean size"),
        pytest.param({"modelSize": "9Pi"}, "modelSize", id="absurd size"),
        pytest.param({"replicas": 1001}, "replicas", id="too many pods"),
        pytest.param({"delivery": "Tmpfs"}, "delivery", id="tmpfs without a server"),
        pytest.param({"device": {"preference": ["GPU", "GPU"]}}, "preference", id="twice"),
        pytest.param(
            {"template": {"metadata": {"labels": {"modelseal.dev/model": "x"}}}}, "labels"
        ),
        pytest.param({"rollout": {"drainSeconds": 60}}, "drainSeconds", id="drains for too long"),
    ],
)
def test_an_inconsistent_spec_is_refused_with_the_name_of_the_field(
    change: Json, word: str
) -> None:
    if change == {"source": {}}:
        change = {"source": {"persistentVolumeClaim": None}}
    refusal = refused(model_object(**change))
    assert refusal.why is Reason.SPEC_INVALID
    assert word in refusal.message


def test_a_missing_provider_is_no_withdrawal() -> None:
    with pytest.raises(Refusal) as caught:
        resolve(parse_model(model_object()), None)
    assert caught.value.why is Reason.PROVIDER_NOT_FOUND
    assert not caught.value.withdrawn


@pytest.mark.parametrize(
    ("grants", "reason"),
    [
        ([], Reason.NAMESPACE_NOT_ALLOWED),
        ([{"namespace": "visio", "models": ["vision/*"]}], Reason.NAMESPACE_NOT_ALLOWED),
        ([{"namespace": "vision", "models": ["vision/file"]}], Reason.MODEL_NOT_ALLOWED),
        ([{"namespace": "vision", "models": ["visio/*"]}], Reason.MODEL_NOT_ALLOWED),
        ([{"namespace": "vision", "models": []}], Reason.MODEL_NOT_ALLOWED),
    ],
)
def test_a_cluster_provider_is_for_those_it_lists(grants: list[Json], reason: Reason) -> None:
    refusal = refused(model_object(), cluster_provider_object(allowedNamespaces=grants))
    assert (refusal.why, refusal.withdrawn) == (reason, True)


def test_a_provider_of_another_namespace_cannot_be_borrowed() -> None:
    foreign = merged(provider_object(), {"metadata": {"namespace": "speech"}})
    assert refused(model_object(), foreign).why is Reason.NAMESPACE_NOT_ALLOWED


def test_the_audience_of_a_namespaced_provider_is_always_its_address() -> None:
    auth = {"audience": "vault"}
    tenant = resolved(provider=provider_object(vault={"auth": auth}))
    assert tenant.provider.vault.audience == "https://vault.example.org:8200"
    admin = resolved(provider=cluster_provider_object(vault={"auth": auth}))
    assert admin.provider.vault.audience == "vault"


def test_a_model_narrows_its_signers_and_never_widens_them() -> None:
    provider = provider_object(signers=[SIGNER, OTHER_SIGNER])
    narrow = model_object(model={"signers": [SIGNER]})
    assert resolved(narrow, provider).signers == (SIGNER,)
    assert resolved(model_object(), provider).signers == (SIGNER, OTHER_SIGNER)
    wide = model_object(model={"signers": [SIGNER, OTHER_SIGNER]})
    assert refused(wide).why is Reason.SIGNERS_NOT_ALLOWED
    unsigned = provider_object(signers=None, allowUnsigned=True)
    assert refused(narrow, unsigned).why is Reason.SIGNERS_NOT_ALLOWED


def test_tmpfs_needs_the_providers_word_and_the_image_on_its_list() -> None:
    model = example("filetype-tmpfs")
    assert refused(model, cluster_provider_object(delivery={"allowTmpfs": False})).why is (
        Reason.DELIVERY_NOT_ALLOWED
    )
    assert refused(model, cluster_provider_object(delivery={"serverImages": []})).why is (
        Reason.SERVER_IMAGE_NOT_ALLOWED
    )
    assert resolved(model, cluster_provider_object()).model.server is not None


def test_keys_of_two_models_are_never_the_same() -> None:
    keys = {
        resolved(model_object(model={"name": name})).key for name in ("a-b/c", "a/b-c", "a.b/c")
    }
    assert len(keys) == 3


def test_role_and_key_are_filled_with_the_resources_own_words() -> None:
    provider = provider_object(
        vault={
            "auth": {"role": "{namespace}.{serviceAccount}"},
            "transit": {"mount": "m/n", "keyName": "k-{name}"},
        }
    )
    found = resolved(model_object(), provider)
    assert (found.role, found.key) == ("vision.filetype", "vault:m/n/k-filetype")


@pytest.mark.parametrize("path", ["..", ".", "a/../b"])
def test_a_provider_cannot_leave_its_mount(path: str) -> None:
    kv = {"transit": None, "kv": {"path": path, "version": 1}}
    assert refused(model_object(), provider_object(vault=kv)).why is Reason.PROVIDER_INVALID


@pytest.mark.parametrize(("signers", "unsigned"), [([], False), ([SIGNER], True)])
def test_a_provider_pins_signers_or_says_that_it_needs_none(
    signers: list[str], unsigned: bool
) -> None:
    provider = provider_object(signers=signers, allowUnsigned=unsigned)
    assert refused(model_object(), provider).why is Reason.PROVIDER_INVALID


@settings(max_examples=300)
@given(st.data())
def test_nothing_that_a_tenant_or_admin_writes_is_more_than_a_refusal(data: st.DataObject) -> None:
    model = data.draw(mutated(example("filetype-full")))
    provider = data.draw(mutated(cluster_provider_object()))
    outcome = attempt(model, provider)
    if isinstance(outcome, str):
        assert outcome.isprintable()
        assert len(outcome) < 1024
    else:
        device = choose_device(outcome.model.devices, None, PODS)
        assert build_children(Context(resolved=outcome, settings=PODS, device=device))


def attempt(model: Json, provider: Json) -> Resolved | str:
    try:
        return resolve(parse_model(model), parse_provider("ClusterKeyProvider", provider))
    except Refusal as refusal:
        return refusal.message


WISH = ("NPU", "GPU", "CPU")
NPU, XE, I915 = "npu.intel.com/accel", "gpu.intel.com/xe", "gpu.intel.com/i915"


@pytest.mark.parametrize(
    ("offered", "name", "resource"),
    [
        ({NPU, XE}, "NPU", NPU),
        ({XE}, "GPU", XE),
        ({I915}, "GPU", I915),
        (set(), "CPU", None),
        (None, "NPU", NPU),
    ],
)
def test_the_first_device_that_a_node_offers_is_chosen(
    offered: set[str] | None, name: str, resource: str | None
) -> None:
    device = choose_device(WISH, offered, PODS)
    assert (device.name, device.resource) == (name, resource)


def test_without_any_offer_the_first_wish_stays_and_its_pods_say_so() -> None:
    assert choose_device(("NPU", "GPU"), set(), PODS).name == "NPU"


def test_a_choice_is_kept_until_the_wish_changes_or_patience_ends() -> None:
    gpu = choose_device(WISH, {XE}, PODS)

    def again(wish: tuple[str, ...] = WISH, **facts: float) -> str:
        return choose_device(wish, {XE, NPU}, PODS, recorded=gpu.record, **facts).name

    assert again() == "GPU"
    assert again(unschedulable=PATIENCE - 1) == "GPU"
    assert again(unschedulable=PATIENCE) == "CPU"
    assert again(("NPU", "CPU")) == "NPU"


def test_cpu_is_a_fallback_only_if_it_is_wished() -> None:
    assert choose_device(("NPU", "CPU"), {NPU}, PODS).usable == ("NPU", "CPU")
    assert choose_device(("NPU",), {NPU}, PODS).usable == ("NPU",)


def test_a_device_brings_its_resource_its_groups_and_recreate() -> None:
    model = model_object(device={"preference": ["NPU"], "supplementalGroups": [109]})
    (deployment,) = (c for c in build_children(context(model)) if c["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"][NPU] == "1"
    assert pod["securityContext"]["supplementalGroups"] == [109]
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
