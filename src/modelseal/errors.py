"""Every error of modelseal, as one tree.

    ModelsealError
    ├── SettingsError             HardeningError  SwapActive  PortInUse
    │   ├── InputUnreadable       NotAModel  OutputFailed  OutputSpace
    ├── HeaderError               UnsupportedVersion  NotSealed  LimitExceeded
    ├── SignatureInvalid          SignatureMissing
    ├── PolicyViolation           RollbackRejected  Expired  ModelTooLarge  PostureRefused
    ├── KeyServiceError           KeyServiceUnavailable  KeyServiceUntrusted  KeyServiceBusy
    │                             KeyServiceProtocolError
    ├── KeyRefused                KeyAccessDenied  KeyNotFound  KeyRevoked
    ├── UnwrapError               WrappedKeyInvalid  WrongKey  WrongPassphrase  NoRecipient
    │                             ManifestMacMismatch
    ├── SourceError               SourceUnavailable  SourceNotFound  SourceDenied  SourceChanged
    ├── PayloadError              KeyCommitmentMismatch  SegmentInvalid  TruncatedError
    │                             TrailingData  DigestMismatch  IndexInvalid
    ├── DeliveryError             OutOfMemory  NotMemoryBacked  PeerRejected
    ├── LeaseError                LeaseStale
    └── ServingError              DeviceUnavailable  ModelLoadFailed  ModelClosed
                                  RequestInvalid

Each class carries its `stage`, its `reason` (what users see), its own `exit_code` (within the
decade of its stage, see `contract.Stage`), whether a new try can cure it (`transient`) and a
`hint` that says what to do. Messages are lower case, say what failed and why, and never contain a
secret, the body of an answer, or an unescaped string from a file.
"""

from typing import ClassVar, Final

from modelseal.contract import Reason, Stage


def shown(value: object, limit: int = 80) -> str:
    """Quote a foreign value for a message: escaped, and cut at `limit` characters."""
    text = ascii(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


class ModelsealError(Exception):
    """The root of the tree; catching it catches everything that modelseal raises on purpose."""

    stage: ClassVar[Stage] = Stage.SETTINGS
    reason: ClassVar[Reason] = Reason.INTERNAL
    exit_code: ClassVar[int] = 1
    transient: ClassVar[bool] = False
    hint: str = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message: Final = message
        if hint is not None:
            self.hint = hint


# --- settings, input and output of the command line ---


class SettingsError(ModelsealError):
    """A setting, an argument or the environment of a program is wrong."""

    stage = Stage.SETTINGS
    reason = Reason.SETTINGS_INVALID
    exit_code = 10


class NotAModel(SettingsError):
    """What should be sealed is not a model that modelseal knows."""

    reason = Reason.NOT_A_MODEL
    exit_code = 11
    hint = "give an OpenVINO .xml (with its .bin), an .onnx file or a folder"


class InputUnreadable(SettingsError):
    """A file that was named cannot be read."""

    reason = Reason.INPUT_UNREADABLE
    exit_code = 12
    hint = "check the path, and that this user may read it"


class OutputFailed(SettingsError):
    """The destination exists already or cannot be written; nothing was left there."""

    reason = Reason.OUTPUT_FAILED
    exit_code = 13
    hint = "choose a destination in a folder that exists and that this user may write"


class OutputSpace(OutputFailed):
    """The destination's disk is full; what was written has been removed."""

    exit_code = 14
    hint = "free some space, or choose another destination with --output"


class PortInUse(SettingsError):
    """A port that a program should listen on is taken."""

    reason = Reason.PORT_IN_USE
    exit_code = 15
    hint = "stop the program that listens there, or choose another port, of 1024 and above"


class HardeningError(SettingsError):
    """The process could not be made undumpable, so no plaintext may enter it."""

    reason = Reason.HARDENING_FAILED
    exit_code = 16


class SwapActive(SettingsError):
    """Swap is active, so plaintext could reach a disk."""

    reason = Reason.SWAP_ACTIVE
    exit_code = 17
    hint = "turn swap off (swapoff -a), or accept the risk with --allow-swap"


# --- manifest ---


class HeaderError(ModelsealError):
    """`seal.json` is not well-formed (docs/format.md, section 3)."""

    stage = Stage.MANIFEST
    reason = Reason.HEADER_INVALID
    exit_code = 20
    hint = "the sealed model is damaged or was not made by modelseal; fetch it again"


class UnsupportedVersion(HeaderError):
    """The format is not the one that this version reads; there is no fallback."""

    reason = Reason.UNSUPPORTED_VERSION
    exit_code = 21
    hint = "use a modelseal that reads this format"


class NotSealed(HeaderError):
    """A plaintext model, or a folder without `seal.json`, where a sealed model is expected."""

    reason = Reason.NOT_SEALED
    exit_code = 22
    hint = "seal it first: modelseal seal MODEL -o OUT --model OWNER/NAME --version V --key KEY"


class LimitExceeded(HeaderError):
    """A count or length is beyond a bound of the format; nothing was allocated."""

    reason = Reason.LIMIT_EXCEEDED
    exit_code = 23


# --- signature ---


class SignatureInvalid(ModelsealError):
    """No signature of the envelope is valid under a pinned signer."""

    stage = Stage.SIGNATURE
    reason = Reason.SIGNATURE_INVALID
    exit_code = 30
    hint = "pin the public key of whoever sealed this model, or do not use this model"


class SignatureMissing(SignatureInvalid):
    """The envelope carries no signature where one is required."""

    reason = Reason.SIGNATURE_MISSING
    exit_code = 31
    hint = "have the model sealed with --sign; only a local test should allow unsigned models"


# --- policy ---


class PolicyViolation(ModelsealError):
    """The signed identity is not the one that was asked for."""

    stage = Stage.POLICY
    reason = Reason.MODEL_NAME_MISMATCH
    exit_code = 40
    hint = "compare --model with what `modelseal inspect` shows"


class RollbackRejected(PolicyViolation):
    """Another digest than the pinned one, or a sequence below the pinned minimum."""

    reason = Reason.ROLLBACK_REJECTED
    exit_code = 41
    hint = "publish the version that is pinned, or pin this one"


class Expired(PolicyViolation):
    """The manifest's `notAfter` has passed."""

    reason = Reason.EXPIRED
    exit_code = 42
    hint = "ask the model's owner for a newer seal"


class ModelTooLarge(PolicyViolation):
    """The signed lengths exceed the declared model size or the memory limit."""

    reason = Reason.MODEL_TOO_LARGE
    exit_code = 43


class PostureRefused(PolicyViolation):
    """The machine's measured posture is below what is demanded."""

    reason = Reason.POSTURE_REFUSED
    exit_code = 44


# --- key service ---


class KeyServiceError(ModelsealError):
    """The key service could not be talked to; says nothing about rights."""

    stage = Stage.LOGIN
    reason = Reason.KEY_SERVICE_UNAVAILABLE
    exit_code = 50
    transient = True


class KeyServiceUnavailable(KeyServiceError):
    """No usable answer within the bounded tries: down, sealed, overloaded, cut off."""

    exit_code = 51
    hint = "check the key service's address and health"


class KeyServiceUntrusted(KeyServiceUnavailable):
    """The key service's certificate is not trusted."""

    reason = Reason.KEY_SERVICE_UNTRUSTED
    exit_code = 52
    hint = "give the CA that signed the key service's certificate (VAULT_CACERT)"


class KeyServiceBusy(KeyServiceUnavailable):
    """The key service asks to come back later (429)."""

    reason = Reason.KEY_SERVICE_BUSY
    exit_code = 53
    hint = "raise the key service's rate limit, or wait"


class KeyServiceProtocolError(KeyServiceError):
    """The answer is not what the key service's protocol says: redirect, HTML, wrong length."""

    reason = Reason.KEY_SERVICE_PROTOCOL
    exit_code = 54
    hint = "check that the address is the key service itself"


class KeyRefused(ModelsealError):
    """The key service itself said no: a refusal, not an outage."""

    stage = Stage.UNWRAP
    reason = Reason.KEY_ACCESS_DENIED
    exit_code = 60
    transient = True


class KeyAccessDenied(KeyRefused):
    """The identity may not log in, or may not use the key."""

    exit_code = 61
    hint = "compare the role and policy with what `modelseal policy` prints"


class KeyNotFound(KeyRefused):
    """The key, its version or its mount does not exist."""

    reason = Reason.KEY_NOT_FOUND
    exit_code = 62
    hint = "check the mount and the key's name"


class KeyRevoked(KeyRefused):
    """The key's version is below the minimum that may decrypt, or was destroyed."""

    reason = Reason.KEY_REVOKED
    exit_code = 63
    hint = "run `modelseal rewrap` if the key was rotated; otherwise access was withdrawn"


class UnwrapError(ModelsealError):
    """The wrapped data key does not open."""

    stage = Stage.UNWRAP
    reason = Reason.WRAPPED_KEY_INVALID
    exit_code = 64


class WrappedKeyInvalid(UnwrapError):
    """The wrapped key was altered, or belongs to another model or seal."""

    exit_code = 65
    hint = "fetch seal.json again; if it stays so, somebody changed it"


class WrongKey(UnwrapError):
    """The key file is not the one that wrapped this model."""

    reason = Reason.WRONG_KEY
    exit_code = 66
    hint = "`modelseal inspect` shows which keys open this model"


class WrongPassphrase(UnwrapError):
    """The passphrase does not open this model."""

    reason = Reason.WRONG_PASSPHRASE
    exit_code = 67
    hint = "type it again; in a file, it is the first line"


class NoRecipient(UnwrapError):
    """No recipient of the sealed model equals the configured key."""

    reason = Reason.NO_RECIPIENT
    exit_code = 68
    hint = "`modelseal inspect` lists the recipients; add one with `modelseal rewrap --add`"


class ManifestMacMismatch(UnwrapError):
    """The data key is not the one that the manifest was made with."""

    reason = Reason.MANIFEST_MAC_MISMATCH
    exit_code = 69
    hint = "somebody exchanged the manifest or the wrapped key; fetch the model again"


# --- source ---


class SourceError(ModelsealError):
    """The ciphertext could not be fetched; says nothing about its content."""

    stage = Stage.FETCH
    reason = Reason.SOURCE_UNAVAILABLE
    exit_code = 70
    transient = True


class SourceUnavailable(SourceError):
    """No usable answer within the bounded tries."""

    exit_code = 71
    hint = "check the source's address and health"


class SourceNotFound(SourceError):
    """An object of the sealed model is missing."""

    reason = Reason.SOURCE_NOT_FOUND
    exit_code = 72
    hint = "check the path; publish all files of the sealed model"


class SourceDenied(SourceError):
    """The source refuses access."""

    reason = Reason.SOURCE_DENIED
    exit_code = 73
    hint = "give the source's credentials, or the right to read"


class SourceChanged(SourceError):
    """An object changed while it was read, so nothing of it was used."""

    reason = Reason.SOURCE_CHANGED
    exit_code = 74
    hint = "publish a sealed model under a new path instead of over an old one"


# --- payload ---


class PayloadError(ModelsealError):
    """A payload is not the one that was signed; nothing of it was released."""

    stage = Stage.DECRYPT
    reason = Reason.SEGMENT_INVALID
    exit_code = 80
    hint = "the sealed model was damaged or altered; fetch it again"


class KeyCommitmentMismatch(PayloadError):
    """The payload's header is not the signed one, or was made with another key."""

    reason = Reason.KEY_COMMITMENT_MISMATCH
    exit_code = 81


class SegmentInvalid(PayloadError):
    """A segment is malformed or does not authenticate."""

    exit_code = 82


class TruncatedError(PayloadError):
    """A payload is shorter than signed."""

    reason = Reason.TRUNCATED
    exit_code = 83


class TrailingData(PayloadError):
    """A payload is longer than signed."""

    reason = Reason.TRAILING_DATA
    exit_code = 84


class DigestMismatch(PayloadError):
    """The ciphertext is not the signed one, although it may authenticate under the data key."""

    reason = Reason.DIGEST_MISMATCH
    exit_code = 85


class IndexInvalid(PayloadError):
    """The encrypted index is malformed or names an unsafe path."""

    reason = Reason.INDEX_INVALID
    exit_code = 86


# --- delivery and lease ---


class DeliveryError(ModelsealError):
    """The plaintext could not be handed over; the memory was wiped."""

    stage = Stage.DELIVER
    reason = Reason.DELIVERY_FAILED
    exit_code = 90
    transient = True


class OutOfMemory(DeliveryError):
    """There is no memory for the plaintext."""

    reason = Reason.OUT_OF_MEMORY
    exit_code = 91
    hint = "free memory, or raise the limit; `modelseal inspect` shows the model's size"


class NotMemoryBacked(DeliveryError):
    """The delivery directory is not on a memory-backed file system."""

    reason = Reason.NOT_MEMORY_BACKED
    exit_code = 92
    transient = False
    hint = "use a tmpfs, such as an emptyDir with medium: Memory"


class PeerRejected(DeliveryError):
    """The process at the other end of the socket is not the one that is expected."""

    reason = Reason.PEER_REJECTED
    exit_code = 93


class LeaseError(ModelsealError):
    """The right to keep the model loaded has ended."""

    stage = Stage.LEASE
    reason = Reason.LEASE_ENDED
    exit_code = 100
    transient = True


class LeaseStale(LeaseError):
    """The key service could not be asked for longer than allowed."""

    reason = Reason.LEASE_STALE
    exit_code = 101
    hint = "restore the key service, or allow a longer absence (max stale)"


# --- serving ---


class ServingError(ModelsealError):
    """The model could not be loaded or asked."""

    stage = Stage.SERVE
    reason = Reason.MODEL_LOAD_FAILED
    exit_code = 110


class DeviceUnavailable(ServingError):
    """None of the wanted devices can be used."""

    reason = Reason.DEVICE_UNAVAILABLE
    exit_code = 111
    hint = "`modelseal doctor` lists the devices of this machine"


class ModelLoadFailed(ServingError):
    """OpenVINO could not read or compile the model."""

    exit_code = 112
    hint = "check the devices' names, and that the plain model loads with this OpenVINO"


class ModelClosed(ServingError):
    """The model was closed; its buffers are gone."""

    reason = Reason.MODEL_CLOSED
    exit_code = 113


class RequestInvalid(ServingError):
    """What the model was asked does not fit its inputs: a name, a type, a shape, a value."""

    reason = Reason.REQUEST_INVALID
    exit_code = 114
