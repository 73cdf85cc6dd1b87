"""Attacks on who sealed a model and which one it is: numbers 6 to 11 and 14."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from modelseal.envelope import (
    DataKeys,
    LocalSigner,
    Policy,
    PublicKey,
    Seal,
    check_policy,
    parse_seal,
    parse_signer,
    verify_mac,
    verify_signature,
)
from modelseal.envelope.dsse import pre_authentication
from modelseal.errors import (
    Expired,
    HeaderError,
    ManifestMacMismatch,
    PolicyViolation,
    RollbackRejected,
    SettingsError,
    SignatureInvalid,
    SignatureMissing,
)
from modelseal.secret import Secret
from support.seals import MODEL, FolderSeal, edited, seal_folder, with_manifest, with_payload

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture(scope="module", params=["ed25519", "ecdsa-p256"])
def signer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LocalSigner:
    return LocalSigner.generate(tmp_path_factory.mktemp("key") / "key", request.param)


@pytest.fixture(scope="module")
def made(signer: LocalSigner, tmp_path_factory: pytest.TempPathFactory) -> FolderSeal:
    folder = tmp_path_factory.mktemp("sealed") / "out"
    return seal_folder(folder, {"model.xml": b"<net/>"}, signer=signer, sequence=5)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> LocalSigner:
    return LocalSigner.generate(tmp_path_factory.mktemp("stranger") / "key")


def pinned(*signers: LocalSigner) -> list[PublicKey]:
    return [parse_signer(signer.public) for signer in signers]


def test_a_signature_by_a_pinned_key_is_accepted(
    signer: LocalSigner, stranger: LocalSigner, made: FolderSeal
) -> None:
    keys = pinned(stranger, signer)
    assert verify_signature(made.seal, keys) == keys[1]


@pytest.mark.negative(6)
def test_an_unsigned_seal_is_refused_where_a_signer_is_pinned(
    signer: LocalSigner, made: FolderSeal
) -> None:
    seal = parse_seal(edited(made.text, lambda top: top["envelope"].update(signatures=[])))
    for allowed in (False, True):
        with pytest.raises(SignatureMissing):
            verify_signature(seal, pinned(signer), allow_unsigned=allowed)
    with pytest.raises(SignatureMissing):
        verify_signature(seal, [])
    assert verify_signature(seal, [], allow_unsigned=True) is None


@pytest.mark.negative(6)
def test_without_a_pinned_signer_a_signed_seal_needs_leave(made: FolderSeal) -> None:
    with pytest.raises(SignatureInvalid, match="no signer is pinned"):
        verify_signature(made.seal, [])
    assert verify_signature(made.seal, [], allow_unsigned=True) is None


@pytest.mark.negative(7)
def test_a_signature_by_another_key_is_refused(stranger: LocalSigner, made: FolderSeal) -> None:
    with pytest.raises(SignatureInvalid, match="no signature is by a pinned signer"):
        verify_signature(made.seal, pinned(stranger))


@pytest.mark.negative(7)
def test_a_strangers_signature_under_the_pinned_key_id_is_refused(
    signer: LocalSigner, stranger: LocalSigner, made: FolderSeal
) -> None:
    envelope = made.seal.envelope
    message = pre_authentication(envelope.payload_type, envelope.payload)
    forged = replace(envelope.signatures[0], sig=stranger.sign(message))
    seal = replace(made.seal, envelope=replace(envelope, signatures=(forged,)))
    with pytest.raises(SignatureInvalid):
        verify_signature(seal, pinned(signer))
    both = replace(envelope, signatures=(forged, *envelope.signatures))
    assert verify_signature(replace(seal, envelope=both), pinned(signer)) == pinned(signer)[0]


@pytest.mark.negative(8)
def test_every_changed_byte_of_the_manifest_breaks_the_signature(
    signer: LocalSigner, made: FolderSeal
) -> None:
    payload = made.seal.envelope.payload
    for position in range(len(payload)):
        changed = bytearray(payload)
        changed[position] ^= 1
        envelope = replace(made.seal.envelope, payload=bytes(changed))
        with pytest.raises(SignatureInvalid):
            verify_signature(replace(made.seal, envelope=envelope), pinned(signer))


@pytest.mark.negative(8)
def test_an_equal_manifest_in_other_bytes_is_not_the_signed_one(
    signer: LocalSigner, made: FolderSeal
) -> None:
    seal = parse_seal(with_manifest(made.text, lambda manifest: None))
    assert seal.manifest == made.seal.manifest
    with pytest.raises(SignatureInvalid):
        verify_signature(seal, pinned(signer))


@pytest.mark.negative(9)
def test_a_signature_over_another_type_is_refused(signer: LocalSigner, made: FolderSeal) -> None:
    envelope = made.seal.envelope
    other = "application/vnd.in-toto+json"
    foreign = signer.sign(pre_authentication(other, envelope.payload))
    signature = replace(envelope.signatures[0], sig=foreign)
    confused = replace(envelope, signatures=(signature,))
    with pytest.raises(SignatureInvalid):
        verify_signature(replace(made.seal, envelope=confused), pinned(signer))
    honest = replace(confused, payload_type=other)
    with pytest.raises(SignatureInvalid, match="another type"):
        verify_signature(replace(made.seal, envelope=honest), pinned(signer))


def test_the_encoding_that_is_signed_leaves_no_room_between_type_and_payload() -> None:
    assert pre_authentication("a", b"b c") == b"DSSEv1 1 a 3 b c"
    assert pre_authentication("a 3 b", b"c") != pre_authentication("a", b"b 1 c")


@pytest.mark.negative(10)
def test_a_valid_seal_of_another_model_is_refused(signer: LocalSigner, made: FolderSeal) -> None:
    verify_signature(made.seal, pinned(signer))
    check_policy(made.seal, Policy(model=MODEL), NOW)
    for other in ("vision/filetypes", "vision/filetyp", "vision2/filetype"):
        with pytest.raises(PolicyViolation, match="is demanded") as caught:
            check_policy(made.seal, Policy(model=other), NOW)
        assert type(caught.value) is PolicyViolation


@pytest.mark.negative(11)
def test_an_older_signed_version_is_refused_where_something_is_pinned(made: FolderSeal) -> None:
    check_policy(made.seal, Policy(model=MODEL, min_sequence=5), NOW)
    with pytest.raises(RollbackRejected, match="sequence 5 is below 6"):
        check_policy(made.seal, Policy(model=MODEL, min_sequence=6), NOW)
    check_policy(made.seal, Policy(model=MODEL, digest=made.seal.digest), NOW)
    with pytest.raises(RollbackRejected, match="not the pinned one"):
        check_policy(made.seal, Policy(model=MODEL, digest="sha256:" + "0" * 64), NOW)


def expiring(made: FolderSeal, text: str) -> Seal:
    return parse_seal(with_manifest(made.text, lambda manifest: manifest.update(notAfter=text)))


def test_a_seal_expires_after_its_last_second(made: FolderSeal) -> None:
    seal = expiring(made, "2026-11-23T12:00:00Z")
    last = datetime(2026, 11, 23, 12, tzinfo=UTC)
    check_policy(seal, Policy(model=MODEL), last)
    with pytest.raises(Expired, match="2026-11-23"):
        check_policy(seal, Policy(model=MODEL), last + timedelta(microseconds=1))


@pytest.mark.parametrize(
    "demand",
    [
        {"model": "vision"},
        {"model": "Vision/x"},
        {"model": MODEL, "digest": "0" * 64},
        {"model": MODEL, "digest": "sha256:" + "A" * 64},
        {"model": MODEL, "digest": "sha256:" + "0" * 63},
        {"model": MODEL, "min_sequence": -1},
    ],
)
def test_a_demand_that_nothing_could_meet_is_a_mistake_in_the_settings(
    demand: dict[str, str | int],
) -> None:
    with pytest.raises(SettingsError):
        Policy(**demand)  # type: ignore[arg-type]  # the point of the test


@pytest.mark.negative(14)
def test_a_seal_with_an_attackers_own_data_key_is_refused(made: FolderSeal) -> None:
    with made.keys() as right:
        verify_mac(made.seal, right)
    wrong = DataKeys.from_dek(Secret(bytes(32)), made.seal.manifest.seal_id)
    with pytest.raises(ManifestMacMismatch):
        verify_mac(made.seal, wrong)
    elsewhere = DataKeys.from_dek(Secret(made.dek), bytes(32))
    with pytest.raises(ManifestMacMismatch):
        verify_mac(made.seal, elsewhere)


@pytest.mark.negative(14)
def test_an_unsigned_manifest_that_was_rewritten_without_the_data_key_is_refused(
    made: FolderSeal,
) -> None:
    def newer(manifest: dict[str, object]) -> None:
        manifest["sequence"] = 99

    seal = parse_seal(with_manifest(made.text, newer))
    assert verify_signature(seal, [], allow_unsigned=True) is None
    with made.keys() as keys, pytest.raises(ManifestMacMismatch):
        verify_mac(seal, keys)


@pytest.mark.negative(14)
def test_every_changed_bit_of_the_mac_is_refused(made: FolderSeal) -> None:
    with made.keys() as keys:
        for bit in range(48 * 8):
            mac = bytearray(made.seal.mac)
            mac[bit // 8] ^= 1 << bit % 8
            with pytest.raises(ManifestMacMismatch):
                verify_mac(replace(made.seal, mac=bytes(mac)), keys)


def accept(text: bytes, made: FolderSeal, signer: LocalSigner) -> Seal | None:
    """Take a seal through all steps before its payloads; nothing if one of them refuses."""
    try:
        seal = parse_seal(text)
        verify_signature(seal, pinned(signer))
        check_policy(seal, Policy(model=MODEL), NOW)
        with made.keys() as keys:
            verify_mac(seal, keys)
    except (HeaderError, SignatureInvalid, ManifestMacMismatch):
        return None
    return seal


@pytest.mark.negative(8)
@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_no_changed_byte_of_a_seal_changes_what_was_signed(
    mask: int, made: FolderSeal, signer: LocalSigner
) -> None:
    """What remains free is what section 6 leaves free: recipients, and the hint of a key id."""
    accepted = 0
    for position in range(len(made.text)):
        changed = bytearray(made.text)
        changed[position] ^= mask
        seal = accept(bytes(changed), made, signer)
        if seal is not None:
            accepted += 1
            assert seal.manifest == made.seal.manifest
            assert seal.envelope.payload == made.seal.envelope.payload
            assert seal.mac == made.seal.mac
    free = sum(len(one.keyid) for one in made.seal.envelope.signatures)
    free += sum(len(f"{one.kind}{one.key}{one.wrapped}") for one in made.seal.recipients)
    assert accepted <= free + len("\n")


@pytest.mark.negative(7)
@pytest.mark.parametrize("junk", [b"\x00", b"\x30\x06\x02\x01\x00\x02\x01\x00", bytes(64)])
def test_a_malformed_signature_is_merely_not_valid(
    junk: bytes, made: FolderSeal, signer: LocalSigner
) -> None:
    encoded = base64.b64encode(junk).decode()
    text = edited(made.text, lambda top: top["envelope"]["signatures"][0].update(sig=encoded))
    with pytest.raises(SignatureInvalid):
        verify_signature(parse_seal(text), pinned(signer))


def test_a_payload_that_is_no_manifest_is_refused_before_its_signature(
    made: FolderSeal,
) -> None:
    with pytest.raises(HeaderError):
        parse_seal(with_payload(made.text, json.dumps({"format": "modelseal/1"}).encode()))
