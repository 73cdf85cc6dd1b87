"""Names that the programs share, and nothing else.

Environment variables, paths, ports, labels, stages, reasons and bounds are written once, here;
every program and the library import them. Standard library only, no I/O, nothing happens at import.
"""

from enum import IntEnum, StrEnum
from typing import Final

VERSION: Final = "0.1.0"

# --- the sealed format (docs/format.md) ---

FORMAT: Final = "modelseal/1"
MANIFEST_TYPE: Final = "application/vnd.modelseal.manifest.v1+json"
SEAL_NAME: Final = "seal.json"
MAX_SEAL_BYTES: Final = 1 << 20
MAX_FILES: Final = 4096
MAX_RECIPIENTS: Final = 8
MAX_SIGNATURES: Final = 8
MAX_INDEX_BYTES: Final = 4 << 20
DIGEST_PREFIX: Final = "sha256:"

# --- the key service ---

DEFAULT_TRANSIT_MOUNT: Final = "transit"
DEFAULT_LEASE_INTERVAL: Final = 60.0
MIN_LEASE_INTERVAL: Final = 5.0
DEFAULT_MAX_STALE: Final = 4 * 3600.0
MAX_TOKEN_TTL: Final = 300.0
RUNTIME_EXIT_BOUND: Final = 2.0
"""Seconds within which a runtime has to be gone after a revocation (design section 8)."""


UNWRAPPED: Final = "the key was unwrapped"
"""The agent's log event that `modelseal audit` joins with the key service's audit log."""


class Stage(IntEnum):
    """The stages of an opening, in their order.

    The value is the first exit code of the stage: every error class of a stage has an exit code in
    `[value, value + 9]`, so `code // 10 * 10` names the stage of any exit code of ours.
    """

    SETTINGS = 10
    MANIFEST = 20
    SIGNATURE = 30
    POLICY = 40
    LOGIN = 50
    UNWRAP = 60
    FETCH = 70
    DECRYPT = 80
    DELIVER = 90
    LEASE = 100
    SERVE = 110

    @property
    def title(self) -> str:
        """The stage as it is written in reports and messages, such as `Manifest`."""
        return self.name.capitalize()


class Reason(StrEnum):
    """Why something is as it is: one word for users, the same in errors, reports and conditions.

    docs/crd.md has a line for each.
    """

    # progress
    STARTING = "Starting"
    SERVING = "Serving"
    WAITING_FOR_RUNTIME = "WaitingForRuntime"
    # settings and local trouble
    SETTINGS_INVALID = "SettingsInvalid"
    HARDENING_FAILED = "HardeningFailed"
    SWAP_ACTIVE = "SwapActive"
    PORT_IN_USE = "PortInUse"
    INPUT_UNREADABLE = "InputUnreadable"
    NOT_A_MODEL = "NotAModel"
    OUTPUT_FAILED = "OutputFailed"
    # manifest
    HEADER_INVALID = "HeaderInvalid"
    UNSUPPORTED_VERSION = "UnsupportedVersion"
    NOT_SEALED = "NotSealed"
    LIMIT_EXCEEDED = "LimitExceeded"
    # signature
    SIGNATURE_INVALID = "SignatureInvalid"
    SIGNATURE_MISSING = "SignatureMissing"
    # policy
    MODEL_NAME_MISMATCH = "ModelNameMismatch"
    ROLLBACK_REJECTED = "RollbackRejected"
    EXPIRED = "Expired"
    MODEL_TOO_LARGE = "ModelTooLarge"
    POSTURE_REFUSED = "PostureRefused"
    # key service
    KEY_SERVICE_UNAVAILABLE = "KeyServiceUnavailable"
    KEY_SERVICE_UNTRUSTED = "KeyServiceUntrusted"
    KEY_SERVICE_BUSY = "KeyServiceBusy"
    KEY_SERVICE_PROTOCOL = "KeyServiceProtocolError"
    KEY_ACCESS_DENIED = "KeyAccessDenied"
    KEY_NOT_FOUND = "KeyNotFound"
    KEY_REVOKED = "KeyRevoked"
    WRAPPED_KEY_INVALID = "WrappedKeyInvalid"
    WRONG_KEY = "WrongKey"
    WRONG_PASSPHRASE = "WrongPassphrase"
    NO_RECIPIENT = "NoRecipient"
    MANIFEST_MAC_MISMATCH = "ManifestMacMismatch"
    # source
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    SOURCE_NOT_FOUND = "SourceNotFound"
    SOURCE_DENIED = "SourceDenied"
    SOURCE_CHANGED = "SourceChanged"
    # payload
    KEY_COMMITMENT_MISMATCH = "KeyCommitmentMismatch"
    SEGMENT_INVALID = "SegmentInvalid"
    TRUNCATED = "Truncated"
    TRAILING_DATA = "TrailingData"
    DIGEST_MISMATCH = "DigestMismatch"
    INDEX_INVALID = "IndexInvalid"
    # delivery
    OUT_OF_MEMORY = "OutOfMemory"
    NOT_MEMORY_BACKED = "NotMemoryBacked"
    PEER_REJECTED = "PeerRejected"
    DELIVERY_FAILED = "DeliveryFailed"
    # lease
    LEASE_STALE = "LeaseStale"
    LEASE_ENDED = "LeaseEnded"
    # runtime
    DEVICE_UNAVAILABLE = "DeviceUnavailable"
    MODEL_LOAD_FAILED = "ModelLoadFailed"
    MODEL_CLOSED = "ModelClosed"
    REQUEST_INVALID = "RequestInvalid"
    # an EncryptedModel, as only the operator sees it
    ACCEPTED = "Accepted"
    SPEC_INVALID = "SpecInvalid"
    PROVIDER_NOT_FOUND = "ProviderNotFound"
    PROVIDER_INVALID = "ProviderInvalid"
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
    MODEL_NOT_ALLOWED = "ModelNotAllowed"
    SIGNERS_NOT_ALLOWED = "SignersNotAllowed"
    DELIVERY_NOT_ALLOWED = "DeliveryNotAllowed"
    SERVER_IMAGE_NOT_ALLOWED = "ServerImageNotAllowed"
    NAME_CONFLICT = "NameConflict"
    APPLY_REFUSED = "ApplyRefused"
    PINNED = "Pinned"
    UNPINNED = "Unpinned"
    KEY_UNWRAPPED = "KeyUnwrapped"
    KEY_VERSION_CURRENT = "KeyVersionCurrent"
    KEY_VERSION_RETIRING = "KeyVersionRetiring"
    SUSPENDED = "Suspended"
    SCALED_TO_ZERO = "ScaledToZero"
    WAITING_FOR_WAVE = "WaitingForWave"
    PROGRESSING = "Progressing"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    # a pod, as only the operator sees it
    UNSCHEDULABLE = "Unschedulable"
    NO_ROOM_FOR_UPDATE = "NoRoomForUpdate"
    QUOTA_EXCEEDED = "QuotaExceeded"
    POD_SECURITY_REFUSED = "PodSecurityRefused"
    SERVICE_ACCOUNT_NOT_FOUND = "ServiceAccountNotFound"
    POD_REFUSED = "PodRefused"
    VOLUME_UNAVAILABLE = "VolumeUnavailable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CONFIG_INVALID = "ContainerConfigInvalid"
    CRASH_LOOPING = "CrashLooping"
    POD_FAILED = "PodFailed"
    REPORT_UNAVAILABLE = "ReportUnavailable"
    # what should not happen
    INTERNAL = "InternalError"


# --- inside a pod ---

REST_PORT: Final = 8080
REPORT_PORT: Final = 8081
HEALTH_PORT: Final = 8082
GRPC_PORT: Final = 9000

SOCKET_NAME: Final = "agent.sock"
SOCKET_DIRECTORY: Final = "/run/modelseal"
SOURCE_DIRECTORY: Final = "/source"
DELIVERY_DIRECTORY: Final = "/model"
TOKEN_PATH: Final = "/var/run/secrets/modelseal/token"
PROVIDER_DIRECTORY: Final = "/etc/modelseal/provider"
TERMINATION_LOG: Final = "/dev/termination-log"

# files of PROVIDER_DIRECTORY, which a running agent reads again and again
PROVIDER_CA: Final = "ca.crt"
PROVIDER_LEASE_INTERVAL: Final = "lease-interval"
PROVIDER_MAX_STALE: Final = "max-stale"
PROVIDER_MIN_SEQUENCE: Final = "min-sequence"
PROVIDER_DIGESTS: Final = "digests"
MAX_PROVIDER_DIGESTS: Final = 64

MAX_REPORT_BYTES: Final = 4096
MAX_TERMINATION_BYTES: Final = 1024
MAX_MESSAGE_BYTES: Final = 64 << 10
MAX_DESCRIPTORS: Final = 64
OVERFLOW_UID: Final = 65534
"""The uid that stands for every unmapped user; it authenticates nobody."""


class Delivery(StrEnum):
    """How plaintext reaches the server (design section 2)."""

    MEMFD = "memfd"
    TMPFS = "tmpfs"


class Posture(StrEnum):
    """What an agent measures of its process and node, as reports name it."""

    DUMPABLE = "dumpable"
    SWAP = "swap"
    CORE_LIMIT = "coreLimit"
    CORE_PIPED = "corePiped"
    MEMORY_LOCK = "memoryLock"
    PTRACE_SCOPE = "ptraceScope"
    SECCOMP = "seccomp"
    NO_NEW_PRIVILEGES = "noNewPrivileges"
    READ_ONLY_ROOT = "readOnlyRoot"
    USER_NAMESPACE = "userNamespace"
    ROOT = "root"
    CONFIDENTIAL_MEMORY = "confidentialMemory"


class Demand(StrEnum):
    """What a key provider may demand of a pod before a key is asked for."""

    NO_SWAP = "NoSwap"
    NO_CORE_HANDLER = "NoCoreHandler"
    PTRACE_RESTRICTED = "PtraceRestricted"
    SECCOMP = "Seccomp"
    NO_NEW_PRIVILEGES = "NoNewPrivileges"
    READ_ONLY_ROOT = "ReadOnlyRoot"
    USER_NAMESPACE = "UserNamespace"
    NON_ROOT = "NonRoot"
    CONFIDENTIAL_MEMORY = "ConfidentialMemory"


class Env(StrEnum):
    """Environment variables that the agent and the runtime read. None of them holds a secret."""

    # both programs
    SOCKET = "MODELSEAL_SOCKET"
    SOCKET_FD = "MODELSEAL_SOCKET_FD"
    PEER_UID = "MODELSEAL_PEER_UID"
    ALLOW_SWAP = "MODELSEAL_ALLOW_SWAP"
    LOG_LEVEL = "MODELSEAL_LOG_LEVEL"
    # agent
    MODEL = "MODELSEAL_MODEL"
    SOURCE = "MODELSEAL_SOURCE"
    SOURCE_CA_FILE = "MODELSEAL_SOURCE_CA_FILE"
    SOURCE_TOKEN_FILE = "MODELSEAL_SOURCE_TOKEN_FILE"
    SOURCE_PROXY = "MODELSEAL_SOURCE_PROXY"
    KEY = "MODELSEAL_KEY"
    SIGNERS = "MODELSEAL_SIGNERS"
    ALLOW_UNSIGNED = "MODELSEAL_ALLOW_UNSIGNED"
    DIGEST = "MODELSEAL_DIGEST"
    POSTURE = "MODELSEAL_POSTURE"
    MIN_SEQUENCE = "MODELSEAL_MIN_SEQUENCE"
    MODEL_SIZE = "MODELSEAL_MODEL_SIZE"
    DELIVERY = "MODELSEAL_DELIVERY"
    DELIVERY_DIRECTORY = "MODELSEAL_DELIVERY_DIRECTORY"
    LEASE_INTERVAL = "MODELSEAL_LEASE_INTERVAL"
    MAX_STALE = "MODELSEAL_MAX_STALE"
    PROVIDER_DIRECTORY = "MODELSEAL_PROVIDER_DIRECTORY"
    PASSPHRASE_FILE = "MODELSEAL_PASSPHRASE_FILE"
    VAULT_ADDRESS = "MODELSEAL_VAULT_ADDRESS"
    VAULT_NAMESPACE = "MODELSEAL_VAULT_NAMESPACE"
    VAULT_CA_FILE = "MODELSEAL_VAULT_CA_FILE"
    VAULT_AUTH = "MODELSEAL_VAULT_AUTH"
    VAULT_AUTH_MOUNT = "MODELSEAL_VAULT_AUTH_MOUNT"
    VAULT_ROLE = "MODELSEAL_VAULT_ROLE"
    VAULT_TOKEN_FILE = "MODELSEAL_VAULT_TOKEN_FILE"
    VAULT_SECRET_ID_FILE = "MODELSEAL_VAULT_SECRET_ID_FILE"
    REPORT_HOST = "MODELSEAL_REPORT_HOST"
    REPORT_PORT = "MODELSEAL_REPORT_PORT"
    TERMINATION_LOG = "MODELSEAL_TERMINATION_LOG"
    # runtime
    MODEL_NAME = "MODELSEAL_MODEL_NAME"
    DEVICES = "MODELSEAL_DEVICES"
    DEVICE_PROPERTIES = "MODELSEAL_DEVICE_PROPERTIES"
    HOST = "MODELSEAL_HOST"
    REST_PORT = "MODELSEAL_REST_PORT"
    GRPC_PORT = "MODELSEAL_GRPC_PORT"
    HEALTH_PORT = "MODELSEAL_HEALTH_PORT"
    PERFORMANCE_HINT = "MODELSEAL_PERFORMANCE_HINT"
    MAX_BODY_BYTES = "MODELSEAL_MAX_BODY_BYTES"
    QUEUE_SIZE = "MODELSEAL_QUEUE_SIZE"
    BATCH_ROWS = "MODELSEAL_BATCH_ROWS"
    BATCH_WAIT = "MODELSEAL_BATCH_WAIT"
    REQUEST_TIMEOUT = "MODELSEAL_REQUEST_TIMEOUT"
    DRAIN_SECONDS = "MODELSEAL_DRAIN_SECONDS"


# --- on the cluster (docs/crd.md) ---

GROUP: Final = "modelseal.dev"
API_VERSION: Final = "v1alpha1"
FIELD_MANAGER: Final = "modelseal-operator"

LABEL_MODEL: Final = "modelseal.dev/model"
"""On children and pods: the name of their EncryptedModel."""
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_TEMPLATE: Final = "modelseal.dev/template"
"""On pods: the hash of the pod template that they were made from."""
ANNOTATION_DESIRED: Final = "modelseal.dev/desired-hash"
"""On children: the hash of what the operator last applied."""
ANNOTATION_GENERATION: Final = "modelseal.dev/generation"
"""On the Deployment: the generation of the resource that its pod template was made from."""
ANNOTATION_WAVE: Final = "modelseal.dev/wave"
"""On the Deployment: the hash of the template that it got in a wave."""
ANNOTATION_DEVICE: Final = "modelseal.dev/device"
"""On the Deployment: the device that was chosen, and the wish that it was chosen for."""

AGENT_CONTAINER: Final = "agent"
RUNTIME_CONTAINER: Final = "runtime"
AGENT_UID: Final = 10001
RUNTIME_UID: Final = 10002
TOKEN_SECONDS: Final = 600
"""Life of the projected service account token; the shortest that Kubernetes allows."""

MAX_NAME: Final = 50
"""Length of an EncryptedModel's name, so that its children's names stay labels."""


class Condition(StrEnum):
    """The condition types of an EncryptedModel."""

    ACCEPTED = "Accepted"
    KEY_AVAILABLE = "KeyAvailable"
    KEY_CURRENT = "KeyCurrent"
    PINNED = "Pinned"
    AVAILABLE = "Available"
    READY = "Ready"


PRECEDENCE: Final = (
    # somebody may have tampered, or the right is gone: shown before everything else
    Reason.SIGNATURE_INVALID,
    Reason.SIGNATURE_MISSING,
    Reason.ROLLBACK_REJECTED,
    Reason.MODEL_NAME_MISMATCH,
    Reason.MANIFEST_MAC_MISMATCH,
    Reason.WRAPPED_KEY_INVALID,
    Reason.KEY_COMMITMENT_MISMATCH,
    Reason.DIGEST_MISMATCH,
    Reason.SEGMENT_INVALID,
    Reason.TRUNCATED,
    Reason.TRAILING_DATA,
    Reason.INDEX_INVALID,
    Reason.HEADER_INVALID,
    Reason.NOT_SEALED,
    Reason.PEER_REJECTED,
    Reason.KEY_REVOKED,
    Reason.KEY_ACCESS_DENIED,
    Reason.KEY_NOT_FOUND,
    Reason.KEY_SERVICE_UNTRUSTED,
    Reason.KEY_SERVICE_PROTOCOL,
    Reason.EXPIRED,
    Reason.LEASE_STALE,
    Reason.LEASE_ENDED,
    # somebody has to change something
    Reason.SETTINGS_INVALID,
    Reason.UNSUPPORTED_VERSION,
    Reason.LIMIT_EXCEEDED,
    Reason.MODEL_TOO_LARGE,
    Reason.POSTURE_REFUSED,
    Reason.SWAP_ACTIVE,
    Reason.HARDENING_FAILED,
    Reason.NOT_MEMORY_BACKED,
    Reason.NO_RECIPIENT,
    Reason.WRONG_KEY,
    Reason.WRONG_PASSPHRASE,
    Reason.SOURCE_NOT_FOUND,
    Reason.SOURCE_DENIED,
    Reason.SOURCE_CHANGED,
    Reason.OUT_OF_MEMORY,
    Reason.DEVICE_UNAVAILABLE,
    Reason.MODEL_LOAD_FAILED,
    Reason.IMAGE_PULL_FAILED,
    Reason.CONTAINER_CONFIG_INVALID,
    Reason.QUOTA_EXCEEDED,
    Reason.POD_SECURITY_REFUSED,
    Reason.SERVICE_ACCOUNT_NOT_FOUND,
    Reason.POD_REFUSED,
    Reason.NO_ROOM_FOR_UPDATE,
    Reason.UNSCHEDULABLE,
    Reason.VOLUME_UNAVAILABLE,
    Reason.DELIVERY_FAILED,
    Reason.INPUT_UNREADABLE,
    Reason.OUTPUT_FAILED,
    Reason.NOT_A_MODEL,
    Reason.PORT_IN_USE,
    Reason.INTERNAL,
    Reason.CRASH_LOOPING,
    Reason.POD_FAILED,
    # time may heal it
    Reason.KEY_SERVICE_UNAVAILABLE,
    Reason.KEY_SERVICE_BUSY,
    Reason.SOURCE_UNAVAILABLE,
    Reason.PROGRESS_DEADLINE_EXCEEDED,
    Reason.MODEL_CLOSED,
    Reason.REPORT_UNAVAILABLE,
    # it goes on
    Reason.WAITING_FOR_WAVE,
    Reason.WAITING_FOR_RUNTIME,
    Reason.PROGRESSING,
    Reason.STARTING,
    Reason.SERVING,
)
"""Of several pods' reasons the one that comes first here is the one that is shown."""
