"""Certificates for the tests: a CA of their own, and what it signs."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["CertificatePaths", "make_ca_and_cert"]


@dataclass(frozen=True, slots=True)
class CertificatePaths:
    """PEM files. `clientcert` and `clientkey` exist with client=True only."""

    cafile: Path
    certfile: Path
    keyfile: Path
    clientcert: Path | None = None
    clientkey: Path | None = None


def make_ca_and_cert(
    dir: Path,  # noqa: A002 - what it is
    *,
    hostname: str = "localhost",
    addresses: tuple[str, ...] = ("127.0.0.1",),
    days: float = 1,
    client: bool = False,
    client_name: str = "client",
    alternative_names: bool = True,
) -> CertificatePaths:
    """A CA, and a server's certificate for `hostname` and `addresses` that it signed, in `dir`.

    They are valid until `days` from now; a negative number makes expired ones. `client`: a
    client's certificate too, with the common name `client_name`. Without `alternative_names` the
    server's has `hostname` as its common name alone.
    """
    dir.mkdir(parents=True, exist_ok=True)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName(hostname)]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]

    ca = _builder("nuropb_rmq test CA", "nuropb_rmq test CA", ca_key, days)
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    ca = ca.add_extension(_usage(ca=True), critical=True)
    ca_file = _save(dir / "ca.pem", ca.sign(ca_key, hashes.SHA256()))

    def issue(name: str, common_name: str, purpose: x509.ObjectIdentifier) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _builder(common_name, "nuropb_rmq test CA", key, days)
        leaf = leaf.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        leaf = leaf.add_extension(_usage(ca=False), critical=True)
        leaf = leaf.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if purpose == ExtendedKeyUsageOID.SERVER_AUTH and alternative_names:
            leaf = leaf.add_extension(x509.SubjectAlternativeName(names), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
        leaf = leaf.add_extension(issuer, critical=False)
        certificate = _save(dir / f"{name}.pem", leaf.sign(ca_key, hashes.SHA256()))
        return certificate, _save_key(dir / f"{name}-key.pem", key)

    server = issue("server", hostname, ExtendedKeyUsageOID.SERVER_AUTH)
    if not client:
        return CertificatePaths(ca_file, *server)
    return CertificatePaths(
        ca_file, *server, *issue("client", client_name, ExtendedKeyUsageOID.CLIENT_AUTH)
    )


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    begins = now - datetime.timedelta(hours=1)
    ends = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(begins, ends - datetime.timedelta(hours=1)))
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
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


def _save(path: Path, certificate: x509.Certificate) -> Path:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


def _save_key(path: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path
