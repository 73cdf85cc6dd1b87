"""The files that a control plane reads: keys and certificates, audit policy, KWOK's stages."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Json = dict[str, Any]
_STAGES: Final = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-delete.yaml",
)


def write_keys(folder: Path) -> None:
    """Write a CA, a server certificate of it for 127.0.0.1, and the service accounts' key."""
    ca_key, server_key = ec.generate_private_key(ec.SECP256R1()), _server_key(folder)
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "control plane of the tests")])
    ca = (
        _certificate(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName(
        [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")]
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    served = (
        _certificate(subject, ca_name, server_key.public_key())
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    for name, certificate in (("ca.pem", ca), ("server.pem", served)):
        (folder / name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    accounts = rsa.generate_private_key(65537, 2048)
    (folder / "accounts.key").write_bytes(_pem(accounts))
    public = accounts.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "accounts.pub").write_bytes(public)


def write_policy(folder: Path) -> None:
    """Write an audit policy: who asked what and what was answered, once for each request."""
    found = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [
            {"level": "Metadata", "userGroups": ["system:serviceaccounts:modelseal-system"]},
            {"level": "None"},
        ],
    }
    (folder / "audit-policy.yaml").write_text(yaml.safe_dump(found), encoding="utf-8")


def write_kwok(folder: Path, stages: Path, hold: str) -> None:
    """Write KWOK's configuration: its own stages, but pods with the label `hold` never start."""
    found = [yaml.safe_load((stages / name).read_text(encoding="utf-8")) for name in _STAGES]
    for stage in found:
        if stage["metadata"]["name"] == "pod-ready":
            key = f'.metadata.labels["{hold}"]'
            stage["spec"]["selector"]["matchExpressions"].append(
                {"key": key, "operator": "DoesNotExist"}
            )
    (folder / "kwok.yaml").write_text(yaml.safe_dump_all(found), encoding="utf-8")


def _server_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "server.key").write_bytes(_pem(key))
    return key


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
