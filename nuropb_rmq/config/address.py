"""The broker's hosts, our credentials there, and TLS; read from a URL or a dict.

The classes are frozen, and checked when they are made: a wrong setting raises
NuropbConfigurationError, which names the field and the values it may have. No error's text
contains a password. Import these names from `nuropb_rmq.config`.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from ..exceptions import NuropbConfigurationError

logger = logging.getLogger("nuropb_rmq.config")

AmqpUrl = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]
"""One broker as a URL or a dict, or several hosts of one cluster as a list of either."""

_T = TypeVar("_T")
_Error = NuropbConfigurationError

_EXAMPLE: Final = "amqp://user:password@host:5672/vhost"
_ESCAPE: Final = "percent-encode '/', '?', '#' and '@' inside user, password, vhost and options"
_MEMORY: Final = "memory://"
_MEMORY_NAME: Final = re.compile(r"[\w.-]{1,100}")
_SCHEMES: Final = {"amqp": False, "amqps": True}
_TLS_KEYS: Final = ("cafile", "certfile", "keyfile", "verify")
_DICT_KEYS: Final = ("host", "hostname", "port", "vhost", "username", "password", "ssl", *_TLS_KEYS)
_TRUTH: Final = {"true": True, "1": True, "false": False, "0": False}
_PIKA_KEYS: Final = frozenset(
    {
        "backpressure_detection",
        "blocked_connection_timeout",
        "channel_max",
        "client_properties",
        "connection_attempts",
        "frame_max",
        "heartbeat",
        "locale",
        "retry_delay",
        "socket_timeout",
        "stack_timeout",
        "tcp_options",
    }
)


def typed(where: str, value: object, kind: type[_T], wanted: str) -> _T:
    """Return `value` if it is a `kind`; a bool is no int. Raises NuropbConfigurationError."""
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise _Error(where, f"must be {wanted}, not {type(value).__name__}")


def utf8(where: str, text: str) -> str:
    """Return `text` if UTF-8 can encode it and it has no NUL.

    A NUL ends a part of SASL PLAIN (RFC 4616); lone surrogates come from an environment that is
    not UTF-8. The error quotes nothing, for the text may be a password.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Error(
            where, "cannot be encoded as UTF-8: was it read with another encoding?"
        ) from None
    if "\0" in text:
        raise _Error(where, "contains a NUL character")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSConfig:
    """The verification of a TLS connection; paths are of PEM files.

    cafile: the authorities to trust, None for the system's.
    certfile, keyfile: the client's certificate, for a broker that asks; it may hold its key.
    verify: False accepts any certificate of any host (tests only).

    Raises NuropbConfigurationError.
    """

    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    verify: bool = True

    def __post_init__(self) -> None:
        for name in ("cafile", "certfile", "keyfile"):
            path = getattr(self, name)
            path = os.fspath(path) if isinstance(path, os.PathLike) else path
            if path is not None and not typed(name, path, str, "the path of a PEM file"):
                raise _Error(name, "is empty: give the path of a PEM file, or leave it out")
            object.__setattr__(self, name, path)
        typed("verify", self.verify, bool, "True or False")
        if self.keyfile is not None and self.certfile is None:
            raise _Error("keyfile", "has no effect without certfile: give the certificate too")

    def context(self) -> ssl.SSLContext:
        """Make a client context: TLS 1.2 or later, with certificate and host name checked.

        Reads the files. Raises NuropbConfigurationError naming the field of a file that is missing,
        unreadable, or has the wrong content.
        """
        for name in ("cafile", "certfile", "keyfile"):
            self._probe(name)
        try:
            context = ssl.create_default_context(cafile=self.cafile)
        except ssl.SSLError as error:
            raise _Error("cafile", f"{self.cafile} holds no PEM certificates") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # A common name no longer counts as a host name (RFC 9525, 2), but for OpenSSL it does.
        context.hostname_checks_common_name = False
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certfile is not None:
            self._load_client_certificate(context, self.certfile)
        return context

    def _probe(self, name: str) -> None:
        path = getattr(self, name)
        if path is None:
            return
        try:
            with open(path, "rb") as file:
                text = file.read()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise _Error(name, f"cannot read {path!r}: {reason}") from error
        if name != "keyfile" and b"-----BEGIN" not in text:
            raise _Error(name, f"{path} is not a PEM file: it holds no certificate")

    def _load_client_certificate(self, context: ssl.SSLContext, certfile: str) -> None:
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certfile, self.keyfile, password="")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise _Error("keyfile", f"the key does not belong to {certfile}") from error
            if self.keyfile is None:
                raise _Error(
                    "certfile", f"{certfile} must hold a certificate and its unencrypted key"
                ) from error
            raise _Error(
                "keyfile", f"{certfile} and {self.keyfile} are no certificate and unencrypted key"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """One broker or cluster: its hosts, virtual host, user and TLS; str() and repr() are masked."""

    hosts: tuple[tuple[str, int], ...]
    vhost: str
    username: str
    password: str = field(repr=False)
    tls: TLSConfig | None
    in_memory: bool = False
    """A broker inside this process: `vhost` is its name."""

    @classmethod
    def parse(cls, amqp_url: AmqpUrl, *, field: str = "amqp_url") -> Broker:
        """Read a URL, a dict, or a list of either; `field` is its name in errors.

        In a URL user, password and virtual host are percent-decoded. No path, "/" and "//" are
        the virtual host "/" (pika reads "//" as a virtual host without a name, which no broker
        has; nuropb's build_amqp_url writes it for "/"). Any other "/" in a virtual host must be
        written %2F: pika would drop the rest. Raises NuropbConfigurationError.
        """
        if isinstance(amqp_url, str) and amqp_url.startswith(_MEMORY):
            return _in_memory(amqp_url, field)
        if isinstance(amqp_url, str):
            return _from_url(amqp_url, field)
        if isinstance(amqp_url, Mapping):
            return _from_dict(amqp_url, field)
        entries: object = amqp_url
        if isinstance(entries, Sequence) and not isinstance(entries, bytes | bytearray):
            return _merge(entries, field)
        kind = type(amqp_url).__name__
        raise _Error(field, f"must be a URL, a dict, or a list of either, not {kind}")

    def __str__(self) -> str:
        if self.in_memory:
            return f"{_MEMORY}{self.vhost}"
        scheme = "amqp" if self.tls is None else "amqps"
        hosts = ",".join(f"{_bracketed(host)}:{port}" for host, port in self.hosts)
        return (
            f"{scheme}://{quote(self.username, safe='')}:***@{hosts}/{quote(self.vhost, safe='')}"
        )

    def management_url(self) -> str:
        """Return the URL of the first host's management API, without credentials.

        Its port is the AMQP port + 10000. Raises NuropbConfigurationError when there is no such
        port.
        """
        host, port = self.hosts[0]
        if port + 10_000 > 65_535:
            raise _Error("rmq_api_url", f"cannot be derived from AMQP port {port}: set it")
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://{_bracketed(host)}:{port + 10_000}"


def _in_memory(url: str, where: str) -> Broker:
    name = url.removeprefix(_MEMORY)
    if not _MEMORY_NAME.fullmatch(name):
        raise _Error(
            where,
            f"expected {_MEMORY}NAME, of letters, digits, '-', '_' and '.', "
            f"got {name.rpartition('@')[2][:80]!r}",  # what is before it may be a password
        )
    return Broker(
        hosts=((name, 0),), vhost=name, username="", password="", tls=None, in_memory=True
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _merge(entries: Sequence[Any], where: str) -> Broker:
    brokers: list[Broker] = []
    for number, entry in enumerate(entries):
        item = f"{where}[{number}]"
        if not isinstance(entry, str | Mapping):
            raise _Error(item, f"must be a URL or a dict, not {type(entry).__name__}")
        brokers.append(Broker.parse(entry, field=item))
    if not brokers:
        raise _Error(where, f"is an empty list: give at least one host, like {_EXAMPLE}")
    first = brokers[0]
    for number, other in enumerate(brokers):
        for name in ("vhost", "username", "password", "tls"):
            if getattr(other, name) != getattr(first, name):
                raise _Error(f"{where}[{number}]", f"{name} must be the same as in {where}[0]")
    hosts = dict.fromkeys(host for broker in brokers for host in broker.hosts)
    return dataclasses.replace(first, hosts=tuple(hosts))


def _from_url(url: str, where: str) -> Broker:
    # Errors of urllib may quote user and password: never chain or repeat them.
    parts, port = _split(url, where)
    tls = _tls(where, _SCHEMES[parts.scheme], _query(parts.query, where))
    try:
        username, password = (
            None if part is None else unquote(part, errors="strict")
            for part in (parts.username, parts.password)
        )
        vhost = unquote(_vhost_part(parts.path, where), errors="strict")
        host = unquote(parts.hostname or "", errors="strict")
    except UnicodeDecodeError:
        raise _Error(where, "percent-encoded characters must be UTF-8") from None
    for name, value in (("username", username), ("password", password), ("vhost", vhost)):
        utf8(f"{where}: {name}", value or "")
    return Broker(
        hosts=((_host(host, where), _port(port, where, tls)),),
        vhost=_vhost(vhost, where),
        username="guest" if username is None else username,
        password=("guest" if username is None else "") if password is None else password,
        tls=tls,
    )


def _split(url: str, where: str) -> tuple[SplitResult, int | None]:
    scheme, separator, rest = url.partition("://")
    if not separator or not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9+.-]*", scheme):
        raise _Error(where, f"is not a URL: it should look like {_EXAMPLE}")
    if scheme.lower() not in _SCHEMES:
        raise _Error(where, f"{scheme}:// is not supported: use amqp:// or amqps:// (TLS)")
    if any(char.isspace() or not char.isprintable() for char in url):
        raise _Error(where, "contains white space or a control character: remove or percent-encode")
    authority, _, tail = rest.partition("/")
    if "#" in url or "@" in tail or "@" in authority.partition("?")[2]:
        raise _Error(where, f"has a '#' or '@' out of place: {_ESCAPE}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        hint = "; for several hosts give a list of URLs" if "," in authority else ""
        text = f"host or port cannot be read (a port is 1-65535): like {_EXAMPLE}; {_ESCAPE}"
        raise _Error(where, text + hint) from None
    return parts, port


def _vhost_part(path: str, where: str) -> str:
    if path in {"", "/", "//"}:
        return "/"
    if "/" in path[1:]:
        raise _Error(where, "has more than one '/' after the host: write it %2F inside a vhost")
    return path[1:]


def _query(query: str, where: str) -> dict[str, Any]:
    values = parse_qs(query, keep_blank_values=True)
    known = set(_TLS_KEYS) & values.keys()
    ignored = sorted(_PIKA_KEYS & values.keys())
    if "ssl_options" in values:
        replaced = ", ".join(_TLS_KEYS)
        raise _Error(where, f"ssl_options is pika's: use amqps:// and {replaced} instead")
    for key in values.keys() - known - _PIKA_KEYS:
        raise _Error(where, f"unknown option {key!r}; known are {', '.join(_TLS_KEYS)}")
    if ignored:
        logger.warning("%s: pika's options %s have no effect here", where, ", ".join(ignored))
    options: dict[str, Any] = {}
    for key in known:
        if len(values[key]) > 1:
            raise _Error(where, f"option {key} is set more than once")
        options[key] = values[key][0]
    if "verify" in options:
        truth = _TRUTH.get(options["verify"].lower())
        if truth is None:
            raise _Error(where, "verify must be true, false, 1 or 0")
        options["verify"] = truth
    return options


def _from_dict(settings: Mapping[str, Any], where: str) -> Broker:
    for key in settings:
        if key not in _DICT_KEYS:
            raise _Error(where, f"unknown key {key!r}; known are {', '.join(_DICT_KEYS)}")
    values = {key: value for key, value in settings.items() if value is not None}
    for key in ("host", "hostname", "vhost", "username", "password"):
        utf8(f"{where}.{key}", typed(f"{where}.{key}", values.get(key, ""), str, "a string"))
    host = values.get("host", values.get("hostname", ""))
    if values.get("hostname", host) != host:
        raise _Error(where, "host and hostname are the same setting, and differ: give one")
    enabled = values.get("ssl")
    if enabled is not None:
        typed(f"{where}.ssl", enabled, bool, "True or False")
    tls = _tls(where, enabled, {key: values[key] for key in _TLS_KEYS if key in values})
    username, password = values.get("username"), values.get("password")
    if username is None and password:
        raise _Error(f"{where}.username", "is missing, and there is a password: give both")
    if not username and not password:  # as in nuropb: the broker's default credentials
        username = password = "guest"  # noqa: S105 - RabbitMQ's well-known default
    return Broker(
        hosts=((_host(host, where), _port(values.get("port"), where, tls)),),
        vhost=_vhost(values.get("vhost") or "/", where),
        username=username or "",
        password=password or "",
        tls=tls,
    )


def _tls(where: str, enabled: bool | None, options: Mapping[str, Any]) -> TLSConfig | None:
    """Return TLS settings, or None for a plain connection; `enabled` None: by the options."""
    files = [key for key in options if key != "verify"]
    if enabled or (enabled is None and files):
        try:
            return TLSConfig(**options)
        except NuropbConfigurationError as error:
            raise _Error(f"{where}.{error.field}", error.description.partition(": ")[2]) from None
    # verify=False passes: nuropb's own defaults have it with ssl=False, where it has no effect.
    for_tls = files or (["verify"] if options.get("verify", False) is not False else [])
    if for_tls:
        raise _Error(
            where, f"{for_tls[0]} is set for a connection without TLS: use amqps:// or ssl=True"
        )
    return None


def _host(host: str, where: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host:
        raise _Error(where, f"host is missing: give a name or an address, like {_EXAMPLE}")
    if any(char in "/@?#[]," or char.isspace() for char in host) or host.count(":") == 1:
        raise _Error(where, "host must be one name or address, without the port")
    return host


def _port(port: object, where: str, tls: TLSConfig | None) -> int:
    if port is None:
        return 5672 if tls is None else 5671
    if isinstance(port, str) and port.isascii() and port.isdigit():  # as pika: from a variable
        port = int(port[:6])
    number = typed(f"{where}.port", port, int, "an integer from 1 to 65535")
    if not 1 <= number <= 65_535:
        raise _Error(f"{where}.port", f"must be from 1 to 65535, not {number}")
    return number


def _vhost(vhost: str, where: str) -> str:
    if len(vhost) > 127 or len(vhost.encode("utf-8", "replace")) > 255:
        raise _Error(f"{where}.vhost", "is too long: at most 127 characters and 255 bytes of UTF-8")
    return vhost
