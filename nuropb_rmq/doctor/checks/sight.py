"""Find facts that the management API does not show to its user."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ...broker.management import untagged
from ...exceptions import BrokerAuthenticationError, BrokerUnreachableError, ServiceNotConfigured
from ..facts import OF_VHOST, Facts, label
from ..finding import Check, Finding, ctl, note, shell, warning

_ADMINISTRATOR: Final = "administrator"
_TAGS: Final = {
    "nodes": "monitoring",
    "connections": "monitoring",
    "policies": "policymaker",
    "operator_policies": "policymaker",
    "vhost": _ADMINISTRATOR,
    "feature_flags": _ADMINISTRATOR,
    "deprecated": _ADMINISTRATOR,
}
"""The tags that a user needs one of, or a higher one, for all that the management API shows."""
_NEEDED: Final = ("queues", "exchanges", "bindings")
"""Facts without which most checks are left out."""
_ANOTHER: Final = (
    "Give the address of one who may see them: --management-url https://USER:PASSWORD@HOST:PORT. "
    "Users of services and clients need no tag."
)


def management(facts: Facts) -> Iterator[Finding]:
    """Find a management API that tells nothing."""
    failed = facts.api_error
    if failed is None:
        return
    if isinstance(failed, BrokerUnreachableError):
        yield warning(
            f"{failed}. Without it queues, bindings and nodes cannot be looked at. Enable the "
            "plugin, or give its address with --management-url.",
            "rabbitmq-plugins enable rabbitmq_management",
        )
    elif isinstance(failed, BrokerAuthenticationError):
        yield _told_nothing(facts, str(failed))
    else:
        yield warning(f"{failed}.")


def unseen(facts: Facts) -> Iterator[Finding]:
    """Find queues, exchanges and bindings that are not shown: most faults would be there."""
    if facts.api_error is not None or isinstance(facts.login_error, ServiceNotConfigured):
        return
    if facts.closed:
        user = facts.subject.api_user
        hidden = ", ".join(label(fact) for fact in OF_VHOST if fact in facts.unseen)
        # For a user who may not log in either, vhost-access names the permissions.
        fix = (ctl(facts, "set_permissions", user, "^$", "^$", "^$"),) if user != facts.user else ()
        yield warning(
            f"User {user!r} of the management API has no permissions in virtual host "
            f"{facts.vhost!r}, and may not see its {hidden}. With empty ones it may look, and "
            "nothing more.",
            *fix,
        )
        return
    for fact in _NEEDED:
        if fact in facts.unseen:
            yield warning(f"The {label(fact)} cannot be looked at: {facts.unseen[fact]}.")


def tags(facts: Facts) -> Iterator[Finding]:
    """Find tags that the user lacks for seeing everything."""
    hidden = [fact for fact in _TAGS if fact in facts.refused]
    if facts.closed:  # which is why, whatever tags it has
        hidden = [fact for fact in hidden if fact not in OF_VHOST]
    if facts.api_error is not None or not hidden or "whoami" not in facts.found:
        return
    told = facts.one("whoami")
    needed = ", ".join(dict.fromkeys(_TAGS[fact] for fact in hidden))
    text = (
        f"User {told.get('name')!r} may not see {', '.join(map(label, hidden))} (tags: {needed})."
    )
    if facts.subject.asks_as_itself:
        yield note(f"{text} {_ANOTHER}")
        return
    # A tag that lets its bearer change everything is nobody's to propose.
    wanted = [tag for fact in hidden if (tag := _TAGS[fact]) != _ADMINISTRATOR]
    has = told.get("tags")
    given = dict.fromkeys([*map(str, has if isinstance(has, list) else []), *wanted])
    fix = (shell("rabbitmqctl", "set_user_tags", told.get("name"), *given),) if wanted else ()
    yield note(
        f"{text} Give the address of one who may with --management-url, or tags to this one.", *fix
    )


def _told_nothing(facts: Facts, why: str) -> Finding:
    """Return the finding for a user who lacks a tag, or whose password is wrong.

    RabbitMQ answers 401 to both, with a reason; the password of the login is known to be right.
    """
    user, as_itself = facts.subject.api_user, facts.subject.asks_as_itself
    text = (
        f"The management API tells user {user!r} nothing: queues, bindings and nodes cannot be "
        "looked at."
    )
    if as_itself:
        return warning(text, do=_ANOTHER)
    if not untagged(why):
        do = "The user or the password of its address (--management-url) is wrong."
        return warning(text, do=do)
    return warning(
        f"{text} Give the address of one who may see them with --management-url, or tags to this "
        "one: the command replaces those that it has.",
        shell("rabbitmqctl", "set_user_tags", user, "monitoring", "policymaker"),
    )


CHECKS: Final = (
    Check(
        "management", "a management API that is not there, or tells this user nothing", management
    ),
    Check("unseen", "queues, exchanges and bindings that the management API does not show", unseen),
    Check("tags", "what the management API does not show to a user for want of tags", tags),
)
