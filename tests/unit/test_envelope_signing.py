"""Signing keys: made, kept, named and refused (docs/format.md, section 4.2)."""

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519

from modelseal.envelope import LocalSigner, PublicKey, parse_signer
from modelseal.errors import InputUnreadable, OutputFailed, SettingsError

PEM = serialization.Encoding.PEM
DER = serialization.Encoding.DER
INFO = serialization.PublicFormat.SubjectPublicKeyInfo
PKCS8 = serialization.PrivateFormat.PKCS8
ALGORITHMS = ["ed25519", "ecdsa-p256"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_generated_pair_signs_and_verifies(algorithm: str, tmp_path: Path) -> None:
    made = LocalSigner.generate(tmp_path / "release", algorithm)
    loaded = LocalSigner.load(tmp_path / "release")
    key = parse_signer(made.public)
    assert loaded.public == made.public
    assert made.public.startswith(f"{algorithm}:")
    assert parse_signer(f"file:{tmp_path}/release.pub") == key
    assert key.uri == made.public
    signature = loaded.sign(b"message")
    assert key.verifies(signature, b"message")
    assert not key.verifies(signature, b"massage")
    assert not key.verifies(b"", b"message")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_private_half_is_its_owners_alone(algorithm: str, tmp_path: Path) -> None:
    LocalSigner.generate(tmp_path / "release", algorithm)
    assert (tmp_path / "release").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "release.pub").read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----")
    assert b"PRIVATE" not in (tmp_path / "release.pub").read_bytes()


@pytest.mark.parametrize("existing", ["release", "release.pub"])
def test_no_key_is_overwritten_and_no_half_is_left(existing: str, tmp_path: Path) -> None:
    (tmp_path / existing).write_bytes(b"mine")
    with pytest.raises(OutputFailed, match="File exists"):
        LocalSigner.generate(tmp_path / "release")
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_bytes() == b"mine"


def test_a_key_of_unknown_kind_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'rsa' is not known"):
        LocalSigner.generate(tmp_path / "release", "rsa")
    assert list(tmp_path.iterdir()) == []


def test_the_key_id_is_the_hash_of_the_public_key_info(tmp_path: Path) -> None:
    made = LocalSigner.generate(tmp_path / "release")
    info = (tmp_path / "release.pub").read_bytes()
    der = serialization.load_pem_public_key(info).public_bytes(DER, INFO)
    assert parse_signer(made.public).keyid == hashlib.sha256(der).hexdigest()


def p256_uri(key: ec.EllipticCurvePublicKey, form: serialization.PublicFormat = INFO) -> str:
    encoding = DER if form is INFO else serialization.Encoding.X962
    return "ecdsa-p256:" + base64.b64encode(key.public_bytes(encoding, form)).decode()


P256 = ec.generate_private_key(ec.SECP256R1()).public_key()
P384 = ec.generate_private_key(ec.SECP384R1()).public_key()
X25519 = x25519.X25519PrivateKey.generate().public_key()


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "ed25519",
        "ed25519:",
        "file:",
        "rsa:AAAA",
        "ed25519:" + base64.b64encode(bytes(31)).decode(),
        "ed25519:" + base64.b64encode(bytes(33)).decode(),
        "ed25519:" + "A" * 43,
        "ed25519:" + base64.b64encode(bytes(32)).decode() + "\n",
        "ed25519: " + base64.b64encode(bytes(32)).decode(),
        "ecdsa-p256:" + base64.b64encode(bytes(32)).decode(),
        p256_uri(P384),
        p256_uri(P256, serialization.PublicFormat.UncompressedPoint),
        "ecdsa-p256:" + base64.b64encode(X25519.public_bytes(DER, INFO)).decode(),
        "ed25519:" + p256_uri(P256).partition(":")[2],
        p256_uri(P256)[:-4],
    ],
)
def test_what_is_no_signer_is_refused(uri: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_signer(uri)
    assert caught.value.hint


def test_a_public_key_with_bytes_behind_it_is_not_canonical() -> None:
    data = P256.public_bytes(DER, INFO)
    assert PublicKey.from_raw("ecdsa-p256", data).data == data
    with pytest.raises(SettingsError):
        PublicKey.from_raw("ecdsa-p256", data + b"\x00")


@pytest.mark.parametrize("key", [P384, X25519], ids=["P-384", "X25519"])
def test_a_pem_of_another_kind_is_refused(
    key: ec.EllipticCurvePublicKey | x25519.X25519PublicKey, tmp_path: Path
) -> None:
    path = tmp_path / "other.pub"
    path.write_bytes(key.public_bytes(PEM, INFO))
    with pytest.raises(SettingsError, match="neither Ed25519 nor ECDSA P-256"):
        parse_signer(f"file:{path}")


def test_files_that_are_no_keys_are_refused_without_their_content(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("a secret that is no key")
    for read in (lambda: parse_signer(f"file:{path}"), lambda: LocalSigner.load(path)):
        with pytest.raises(SettingsError) as caught:
            read()
        assert "secret that" not in str(caught.value)
    path.write_bytes(bytes(20 << 10))
    with pytest.raises(SettingsError, match="too long to be a key"):
        LocalSigner.load(path)
    with pytest.raises(InputUnreadable, match="No such file"):
        LocalSigner.load(tmp_path / "absent")
    with pytest.raises(InputUnreadable, match="No such file"):
        parse_signer(f"file:{tmp_path}/absent.pub")


def test_private_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    plain = serialization.NoEncryption()
    key = rsa.generate_private_key(65537, 2048)
    path.write_bytes(key.private_bytes(PEM, PKCS8, plain))
    with pytest.raises(SettingsError, match="neither an Ed25519 nor"):
        LocalSigner.load(path)
    curve = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(curve.private_bytes(PEM, PKCS8, plain))
    with pytest.raises(SettingsError, match="neither Ed25519 nor"):
        LocalSigner.load(path)
    locked = serialization.BestAvailableEncryption(b"passphrase")
    path.write_bytes(ed25519.Ed25519PrivateKey.generate().private_bytes(PEM, PKCS8, locked))
    with pytest.raises(SettingsError, match="no unencrypted PEM"):
        LocalSigner.load(path)
