"""The way to the broker: names, TCP, TLS."""

from __future__ import annotations

import asyncio
import ssl
from socket import socket

from cryptography import x509

from ..broker.addresses import connect, resolve
from ..broker.error_translation import tls_text
from ..config.address import Broker
from .facts import Host, Tls


async def look(broker: Broker, timeout: float) -> tuple[Host, ...]:
    """Look at all hosts of an address; `timeout` is in seconds, for each.

    Raises NuropbConfigurationError when a file of certificates cannot be read.
    """
    context = None if broker.tls is None else broker.tls.context()
    hosts = tuple(Host(name=name, port=port) for name, port in broker.hosts)
    await asyncio.gather(*(_look_at(host, context, timeout) for host in hosts))
    return hosts


async def _look_at(host: Host, context: ssl.SSLContext | None, timeout: float) -> None:
    try:
        async with asyncio.timeout(timeout):
            addresses = await resolve(host.name, host.port)
    except (OSError, ValueError) as e:  # TimeoutError is an OSError
        host.unresolved = _text(e, timeout)
        return
    try:
        async with asyncio.timeout(timeout):
            _, sock = await connect(addresses)
            if context is None:
                sock.close()
                return
            await _shake_hands(host, sock, context)
    except ssl.SSLError as e:
        host.untrusted = tls_text(e)
        await _see_certificate(host, timeout)
    except OSError as e:
        host.unreachable = _text(e, timeout)


async def _shake_hands(host: Host, sock: socket, context: ssl.SSLContext) -> None:
    _, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=host.name)
    try:
        secured: ssl.SSLObject = writer.get_extra_info("ssl_object")
        certificate = secured.getpeercert(binary_form=True)
        if certificate is not None:
            host.tls = _read(certificate, secured.version() or "")
    finally:
        writer.transport.abort()


async def _see_certificate(host: Host, timeout: float) -> None:
    """See the certificate that is not trusted: nothing is sent over this connection."""
    blind = ssl.create_default_context()
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(timeout):
            _, sock = await connect(await resolve(host.name, host.port))
            await _shake_hands(host, sock, blind)
    except OSError:  # then the first error says all
        return


def _read(certificate: bytes, version: str) -> Tls:
    read = x509.load_der_x509_certificate(certificate)
    try:
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        told: tuple[str, ...] = ()
    else:
        told = tuple(str(each.value) for each in names)
    return Tls(
        version=version,
        subject=read.subject.rfc4514_string(),
        names=told,
        ends=read.not_valid_after_utc,
    )


def _text(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return f"no answer in {timeout:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
