"""The way to the broker: address, network, TLS, login, permissions."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from ...broker.permissions import Permission
from ...exceptions import (
    BrokerAuthenticationError,
    ConnectionLostError,
    ServiceNotConfigured,
)
from ..facts import Facts, Host
from ..finding import Check, Finding, error, note, shell, warning
from ..needed import REPLACES, recipe
from .broker import limits_of, unlimited

DAYS_LEFT: Final = 30
"""A certificate that ends sooner is a warning."""
_NEW_TLS: Final = "TLSv1.3"
_NOT_ALLOWED: Final = 530
_MAX_CONNECTIONS: Final = "max-connections"
_OF_USER: Final = "user connection limit"
_OF_NODE: Final = "node connection limit"
_OF_VHOST: Final = re.compile("access to vhost .*: connection limit")


def plain_text(facts: Facts) -> Iterator[Finding]:
    """Find a password that goes over a network as it is."""
    remote = _remote(facts)
    if facts.config.broker.tls is None and remote:
        yield warning(
            f"Password and messages go to {remote} in plain.",
            do="Use amqps:// and the port for TLS.",
        )


def guest(facts: Facts) -> Iterator[Finding]:
    """Find the user whom everybody knows."""
    remote = _remote(facts)
    if facts.user == "guest" and remote:
        yield warning(
            f"User guest, whose password everybody knows, is used at {remote}; RabbitMQ refuses "
            "it from other machines, unless loopback_users is empty.",
            do="Make a user for each service (rabbitmqctl add_user).",
        )


def unverified(facts: Facts) -> Iterator[Finding]:
    """Find TLS that trusts anybody."""
    tls = facts.config.broker.tls
    if tls is not None and not tls.verify:
        yield warning(
            "The broker's certificate is not verified (verify=false): anybody on the way can "
            "read the password.",
            do="Name its authority with cafile in place of it.",
        )


def resolves(facts: Facts) -> Iterator[Finding]:
    """Find host names without an address."""
    yield from _of_hosts(facts, "unresolved", "has no address")


def reachable(facts: Facts) -> Iterator[Finding]:
    """Find hosts that accept no connection."""
    yield from _of_hosts(
        facts, "unreachable", "accepts no connection", ": does RabbitMQ run there, on this port?"
    )


def trusted(facts: Facts) -> Iterator[Finding]:
    """Find certificates that are not trusted, or belong to another host."""
    for host in facts.hosts:
        if not host.untrusted:
            continue
        shown = ""
        if host.tls is not None:
            names = ", ".join(host.tls.names) or "no name"
            shown = f" Its certificate, of {host.tls.subject}, is for {names}."
        yield _worse_if_alone(facts, f"TLS with {host} fails: {host.untrusted}.{shown}")


def expires(facts: Facts) -> Iterator[Finding]:
    """Find certificates that end soon."""
    for host in facts.hosts:
        if host.tls is None or host.untrusted:
            continue
        left = (host.tls.ends - datetime.now(UTC)).days
        if left < DAYS_LEFT:
            yield warning(
                f"The certificate of {host} ends in {left} days, on {host.tls.ends:%Y-%m-%d}: "
                "renew it before that."
            )


def tls_version(facts: Facts) -> Iterator[Finding]:
    """Find a broker that does not speak the current TLS."""
    for host in facts.hosts:
        if host.tls is not None and host.tls.version != _NEW_TLS:
            yield note(
                f"{host} speaks {host.tls.version}, not {_NEW_TLS}: add it to "
                "ssl_options.versions in rabbitmq.conf."
            )


def login(facts: Facts) -> Iterator[Finding]:
    """Find credentials that are refused, and whatever else keeps us out."""
    failed = facts.login_error
    if failed is None or isinstance(failed, ServiceNotConfigured):
        return
    if _closed_to_us(facts):
        return
    if isinstance(failed, BrokerAuthenticationError):
        yield error(
            f"The broker refuses user {facts.user!r}: is its password right? This asks for it "
            "and tries it.",
            shell("rabbitmqctl", "authenticate_user", facts.user),
        )
    elif not _at_a_limit(facts):
        yield error(f"Login fails: {failed}")


def vhost(facts: Facts) -> Iterator[Finding]:
    """Find a virtual host that is missing."""
    if isinstance(facts.login_error, ServiceNotConfigured):
        yield error(
            f"Virtual host {facts.vhost!r} does not exist: is its name right?",
            shell("rabbitmqctl", "add_vhost", facts.vhost),
        )


def vhost_access(facts: Facts) -> Iterator[Finding]:
    """Find a user who may not enter the virtual host."""
    if _closed_to_us(facts):
        text = f"User {facts.user!r} may not enter {facts.vhost!r}."
        if facts.subject.target:
            yield error(text, recipe(facts), do=REPLACES)
        else:
            do = "Name the service or the client, for the command that permits it."
            yield error(text, do=do)


def connection_limit(facts: Facts) -> Iterator[Finding]:
    """Find limits of connections that are reached: the user's, the virtual host's, the node's."""
    if not _at_a_limit(facts):
        return
    told = "" if (lost := _lost(facts)) is None else lost.text
    text = f"No more connections: {facts.login_error}."
    if _OF_USER in told:
        fix = shell("rabbitmqctl", "clear_user_limits", facts.user, _MAX_CONNECTIONS)
        yield error(f"{text} The command takes this limit of the user off.", fix)
    elif _OF_NODE in told:
        yield error(
            text,
            do="Close connections that nobody needs, or raise connection_max in the node's "
            "rabbitmq.conf.",
        )
    elif not _OF_VHOST.search(told):
        yield error(text, do="Close connections that nobody needs.")
    elif "limits" in facts.found and _MAX_CONNECTIONS in limits_of(facts):
        yield error(
            f"{text} The command takes this limit off (-1); any number sets another.",
            unlimited(facts, _MAX_CONNECTIONS),
        )
    else:
        yield error(f"{text} It is one of those that rabbitmqctl list_vhost_limits tells.")


def client_permissions(facts: Facts) -> Iterator[Finding]:
    """Find what a client may not do: call, publish, receive answers."""
    facts.subject.must_be_named()
    yield from _denied(facts, facts.login.denied_client, "to call and publish")


def service_permissions(facts: Facts) -> Iterator[Finding]:
    """Find what a service may not do."""
    yield from _denied(facts, facts.login.denied_service, "to serve")


def _remote(facts: Facts) -> str:
    """Return the first host that is another machine; "" when there is none."""
    return next((name for name, _ in facts.config.broker.hosts if not _is_local(name)), "")


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _of_hosts(facts: Facts, problem: str, text: str, advice: str = ".") -> Iterator[Finding]:
    for host in facts.hosts:
        if why := getattr(host, problem):
            told = host.name if problem == "unresolved" else str(host)
            yield _worse_if_alone(facts, f"{told} {text} ({why}){advice}")


def _worse_if_alone(facts: Facts, text: str) -> Finding:
    """Return an error, or a warning when another host works."""
    return warning(text) if _any_works(facts.hosts) else error(text)


def _any_works(hosts: Iterable[Host]) -> bool:
    return any(host.works for host in hosts)


def _lost(facts: Facts) -> ConnectionLostError | None:
    cause = None if facts.login_error is None else facts.login_error.exception
    return cause if isinstance(cause, ConnectionLostError) else None


def _closed_to_us(facts: Facts) -> bool:
    lost = _lost(facts)
    refused = isinstance(facts.login_error, BrokerAuthenticationError)
    return refused and lost is not None and lost.code == _NOT_ALLOWED


def _at_a_limit(facts: Facts) -> bool:
    lost = _lost(facts)
    return lost is not None and lost.code == _NOT_ALLOWED and "is reached" in lost.text


def _denied(facts: Facts, denied: Iterable[Permission], purpose: str) -> Iterator[Finding]:
    missing = [str(each) for each in denied]
    if missing:
        yield error(
            f"User {facts.user!r} lacks permissions {purpose} in {facts.vhost!r}: "
            f"{'; '.join(missing)}.",
            recipe(facts),
            do=REPLACES,
        )


CHECKS: Final = (
    Check("plain-text", "password and messages go to another machine without TLS", plain_text),
    Check("guest", "user guest at another machine", guest),
    Check("tls-verify", "TLS whose certificates nobody verifies (verify=false)", unverified),
    Check("resolve", "host names without an address", resolves),
    Check("reach", "hosts that accept no connection", reachable),
    Check(
        "tls-trust", "certificates of an unknown authority, expired, or of another host", trusted
    ),
    Check("tls-expiry", f"certificates that end within {DAYS_LEFT} days", expires),
    Check("tls-version", "a broker that speaks no TLS 1.3", tls_version),
    Check("login", "refused credentials, and other reasons for which no login succeeds", login),
    Check("vhost", "a virtual host that does not exist", vhost),
    Check("vhost-access", "a virtual host that the user may not enter", vhost_access),
    Check("connection-limit", "a limit of connections that is reached", connection_limit),
    Check(
        "permissions-client",
        "permissions that calling, publishing and receiving answers need",
        client_permissions,
    ),
    Check(
        "permissions-service",
        "permissions that the service needs for its queues and the exchanges",
        service_permissions,
    ),
)
