"""What every Reason means on a cluster, and what to do about it.

The status messages and the table of docs/crd.md are made of these sentences; a test demands one
for every Reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from modelseal.contract import Reason


@dataclass(frozen=True)
class Advice:
    """A clause that says what is so, and one that says what to do (empty if nothing)."""

    meaning: str
    remedy: str = ""

    @property
    def message(self) -> str:
        """Both clauses as one message."""
        return f"{self.meaning}: {self.remedy}" if self.remedy else self.meaning


_RESEAL: Final = "publish the sealed model again, and find out who changed it"
_RUNBOOK: Final = "read the container's log, and report a bug if it is modelseal's fault"

ADVICE: Final[Mapping[Reason, Advice]] = {
    # progress
    Reason.STARTING: Advice("the pod is starting and the model is being opened"),
    Reason.SERVING: Advice("the model is being served"),
    Reason.WAITING_FOR_RUNTIME: Advice("the model is opened and the server is loading it"),
    Reason.PROGRESSING: Advice("pods of the current template are being made"),
    Reason.WAITING_FOR_WAVE: Advice(
        "an update that did not come from this resource waits for its turn",
        "nothing; if it does not move, another model's update has failed",
    ),
    # the object itself
    Reason.ACCEPTED: Advice("the resource is consistent and its provider allows it"),
    Reason.SPEC_INVALID: Advice("the spec is inconsistent", "correct the field that is named"),
    Reason.PROVIDER_NOT_FOUND: Advice(
        "the key provider does not exist", "create it, or correct spec.keyProviderRef"
    ),
    Reason.PROVIDER_INVALID: Advice(
        "the key provider is inconsistent", "have its owner correct the field that is named"
    ),
    Reason.NAMESPACE_NOT_ALLOWED: Advice(
        "the key provider does not allow this namespace; its pods were removed",
        "ask the provider's admin for an entry in spec.allowedNamespaces",
    ),
    Reason.MODEL_NOT_ALLOWED: Advice(
        "the key provider does not allow this model here; its pods were removed",
        "ask the provider's admin to list it in spec.allowedNamespaces",
    ),
    Reason.SIGNERS_NOT_ALLOWED: Advice(
        "the spec trusts a signer that the provider does not",
        "take it out of spec.model.signers, or have it pinned on the provider",
    ),
    Reason.DELIVERY_NOT_ALLOWED: Advice(
        "the provider does not allow delivery Tmpfs",
        "use Memfd, or ask the provider's admin for spec.delivery.allowTmpfs",
    ),
    Reason.SERVER_IMAGE_NOT_ALLOWED: Advice(
        "the provider does not list the server's image",
        "ask the provider's admin to add it to spec.delivery.serverImages",
    ),
    Reason.NAME_CONFLICT: Advice(
        "an object with the name of a child belongs to somebody else and was left alone",
        "rename it or this resource",
    ),
    Reason.APPLY_REFUSED: Advice(
        "the API server refused a child", "read the message; an admission policy may forbid it"
    ),
    Reason.PINNED: Advice("an older or other seal would be refused"),
    Reason.UNPINNED: Advice(
        "any seal of this model is accepted, older ones too",
        "set spec.model.digest or spec.model.minSequence to refuse rollbacks",
    ),
    Reason.KEY_UNWRAPPED: Advice("the key service let the pods open the model"),
    Reason.KEY_VERSION_CURRENT: Advice("no version of the key that opens the model is retiring"),
    Reason.KEY_VERSION_RETIRING: Advice(
        "the key's version that opens the model will stop to decrypt",
        "run `modelseal rewrap` on the sealed model and publish its new seal.json",
    ),
    Reason.SUSPENDED: Advice("the model is suspended", "set spec.suspend to false to serve it"),
    Reason.SCALED_TO_ZERO: Advice("no pods are wanted", "raise spec.replicas to serve the model"),
    # pods
    Reason.PROGRESS_DEADLINE_EXCEEDED: Advice(
        "the rollout made no progress for spec.rollout.progressDeadlineSeconds",
        "describe the pods of the current template",
    ),
    Reason.UNSCHEDULABLE: Advice(
        "no node has room for the pod",
        "compare spec.modelSize, spec.compiledSize and spec.template with what nodes offer",
    ),
    Reason.NO_ROOM_FOR_UPDATE: Advice(
        "no node has room for a new pod beside the old one, which keeps serving",
        "add room, or set spec.rollout.strategy to Recreate and accept an interruption",
    ),
    Reason.QUOTA_EXCEEDED: Advice(
        "the namespace's quota leaves no room for the pod",
        "raise the quota, or lower spec.modelSize, spec.compiledSize or spec.replicas",
    ),
    Reason.POD_SECURITY_REFUSED: Advice(
        "Pod Security refused the pod",
        "modelseal's pods satisfy 'restricted'; look for what spec.template or a policy adds",
    ),
    Reason.SERVICE_ACCOUNT_NOT_FOUND: Advice(
        "the service account does not exist", "create the one that spec.serviceAccountName names"
    ),
    Reason.POD_REFUSED: Advice(
        "the API server refused the pod",
        "describe the ReplicaSet; an admission policy may forbid it",
    ),
    Reason.VOLUME_UNAVAILABLE: Advice(
        "a volume of the pod is not there",
        "check the claim, ConfigMap, Secret or image that spec.source names",
    ),
    Reason.IMAGE_PULL_FAILED: Advice(
        "an image of the pod cannot be pulled",
        "check its name and registry, and spec.template.imagePullSecrets",
    ),
    Reason.CONTAINER_CONFIG_INVALID: Advice(
        "the kubelet cannot create a container", "describe the pod"
    ),
    Reason.CRASH_LOOPING: Advice("a container keeps exiting", _RUNBOOK),
    Reason.POD_FAILED: Advice(
        "the pod was ended by its node", "describe the pod; its node may lack memory or disk"
    ),
    Reason.REPORT_UNAVAILABLE: Advice(
        "the agent runs and does not answer the operator",
        "check that network policies let the operator reach port 8081 of the pod",
    ),
    # settings and local trouble
    Reason.SETTINGS_INVALID: Advice("a container refused its settings", _RUNBOOK),
    Reason.HARDENING_FAILED: Advice(
        "the process could not be made undumpable, so no plaintext may enter it",
        "check the runtime class and security profile of the pods",
    ),
    Reason.SWAP_ACTIVE: Advice(
        "swap is active on the node, so plaintext could reach a disk",
        "turn it off, choose other nodes, or set the provider's spec.posture.swap to Allow",
    ),
    Reason.PORT_IN_USE: Advice(
        "a port of the pod is taken", "look for containers that were added to the pod"
    ),
    Reason.INPUT_UNREADABLE: Advice("a file of the pod cannot be read", _RUNBOOK),
    Reason.NOT_A_MODEL: Advice("what was sealed is no model", "seal an OpenVINO or ONNX model"),
    Reason.OUTPUT_FAILED: Advice("a container cannot write where it must", _RUNBOOK),
    # manifest
    Reason.HEADER_INVALID: Advice("seal.json is not well-formed", _RESEAL),
    Reason.UNSUPPORTED_VERSION: Advice(
        "the model was sealed in another format", "use the modelseal release that reads it"
    ),
    Reason.NOT_SEALED: Advice(
        "there is no sealed model at the source", "seal it first, and check spec.source"
    ),
    Reason.LIMIT_EXCEEDED: Advice("the sealed model exceeds a bound of the format", _RESEAL),
    # signature and policy
    Reason.SIGNATURE_INVALID: Advice(
        "no signature is valid under a pinned signer",
        "pin the signer's key on the provider, or do not use this model",
    ),
    Reason.SIGNATURE_MISSING: Advice(
        "the model is not signed", "have it sealed with --sign, by a signer of the provider"
    ),
    Reason.MODEL_NAME_MISMATCH: Advice(
        "the seal is of another model than spec.model.name", "check spec.source"
    ),
    Reason.ROLLBACK_REJECTED: Advice(
        "the seal is not the pinned one, or older than spec.model.minSequence",
        "publish the version that is pinned, or pin the one that is published",
    ),
    Reason.EXPIRED: Advice("the seal has expired", "ask the model's owner for a newer one"),
    Reason.MODEL_TOO_LARGE: Advice(
        "the model is larger than spec.modelSize", "raise spec.modelSize to what `inspect` prints"
    ),
    Reason.POSTURE_REFUSED: Advice(
        "the node does not have the posture that the provider demands", "choose other nodes"
    ),
    # key service
    Reason.KEY_SERVICE_UNAVAILABLE: Advice(
        "the key service cannot be reached",
        "check its health, the provider's address, and network policies",
    ),
    Reason.KEY_SERVICE_UNTRUSTED: Advice(
        "the key service's certificate is not trusted", "set the provider's spec.vault.caBundle"
    ),
    Reason.KEY_SERVICE_BUSY: Advice(
        "the key service asks to come back later", "raise its rate limit, or wait"
    ),
    Reason.KEY_SERVICE_PROTOCOL: Advice(
        "what answers is not a key service", "check the provider's address for proxies"
    ),
    Reason.KEY_ACCESS_DENIED: Advice(
        "the key service refuses this service account the key",
        "compare its role and policy with what `modelseal policy` prints",
    ),
    Reason.KEY_NOT_FOUND: Advice(
        "the key or its mount does not exist", "check mount and key name on the provider"
    ),
    Reason.KEY_REVOKED: Advice(
        "the key's version may not decrypt any more; the model was unloaded",
        "run `modelseal rewrap` if it was rotated; otherwise the right was withdrawn",
    ),
    Reason.WRAPPED_KEY_INVALID: Advice(
        "the wrapped key was altered, or belongs to another model", _RESEAL
    ),
    Reason.WRONG_KEY: Advice("the key does not open this model", "check the provider's key"),
    Reason.WRONG_PASSPHRASE: Advice("the passphrase does not open this model", "seal it for Vault"),
    Reason.NO_RECIPIENT: Advice(
        "the model is not sealed for this provider's key",
        "add it with `modelseal rewrap --add`, or correct the provider's key name",
    ),
    Reason.MANIFEST_MAC_MISMATCH: Advice("the manifest does not belong to the key", _RESEAL),
    # source
    Reason.SOURCE_UNAVAILABLE: Advice(
        "the source cannot be read", "check its health, spec.source, and network policies"
    ),
    Reason.SOURCE_NOT_FOUND: Advice(
        "a file of the sealed model is missing", "check the path in spec.source"
    ),
    Reason.SOURCE_DENIED: Advice(
        "the source refuses access",
        "check spec.source's credentials; on a volume, that uid 10001 may read the files",
    ),
    Reason.SOURCE_CHANGED: Advice(
        "the sealed model changed while it was read", "publish every version under a new path"
    ),
    # payload
    Reason.KEY_COMMITMENT_MISMATCH: Advice("a payload's header is not the signed one", _RESEAL),
    Reason.SEGMENT_INVALID: Advice("a payload is damaged or altered", _RESEAL),
    Reason.TRUNCATED: Advice("a payload is shorter than signed", _RESEAL),
    Reason.TRAILING_DATA: Advice("a payload is longer than signed", _RESEAL),
    Reason.DIGEST_MISMATCH: Advice("a payload is not the signed one", _RESEAL),
    Reason.INDEX_INVALID: Advice("the encrypted index is malformed", _RESEAL),
    # delivery and lease
    Reason.OUT_OF_MEMORY: Advice(
        "a container ran out of memory", "raise spec.modelSize or spec.compiledSize"
    ),
    Reason.NOT_MEMORY_BACKED: Advice(
        "the delivery volume is not in memory", "look for what changed the pod's volumes"
    ),
    Reason.PEER_REJECTED: Advice(
        "a process of another user tried the agent's socket",
        "look for containers that were added to the pod",
    ),
    Reason.DELIVERY_FAILED: Advice("the model could not be handed to the server", _RUNBOOK),
    Reason.LEASE_STALE: Advice(
        "the key service was away for longer than the provider's maxStaleSeconds",
        "restore it; the model comes back by itself",
    ),
    Reason.LEASE_ENDED: Advice(
        "the right to the key has ended and the model was unloaded",
        "grant it again; the model comes back by itself",
    ),
    # runtime
    Reason.DEVICE_UNAVAILABLE: Advice(
        "no node offers a device of spec.device.preference, or its driver fails",
        "add CPU to the list to fall back to it, or check the device plugin",
    ),
    Reason.MODEL_LOAD_FAILED: Advice(
        "OpenVINO cannot load the model", "read the runtime's log, and seal a model that loads"
    ),
    Reason.MODEL_CLOSED: Advice("the server has closed the model"),
    Reason.REQUEST_INVALID: Advice("a request was refused", "correct the request"),
    Reason.INTERNAL: Advice("modelseal failed in a way that has no name", _RUNBOOK),
}


def message_of(reason: Reason, detail: str = "") -> str:
    """Return the message of a reason, with what is special about this case in front of it."""
    text = ADVICE[reason].message
    return f"{detail}; {text}" if detail else text
