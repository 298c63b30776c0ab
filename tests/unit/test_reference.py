"""docs/reference: what is written from the code is what it says now, and nothing is left out."""

from __future__ import annotations

import dataclasses
import re
from importlib import import_module
from typing import Final

import pytest

from nuropb_rmq import Mesh, TransportConfig
from tests.tools import exchanges_image
from tests.tools.public_api import MODULES, PACKAGE, public_names
from tests.tools.reference import COMMAND, FOLDER, PAGES, exceptions, written
from tests.tools.site.docstrings import linked, markdown

API: Final = FOLDER / "api"
OPERATIONS: Final = FOLDER.parent / "operations"
URL: Final = "amqp://h"
UNITS: Final = {"": 1, " MiB": 2**20, " min": 60}
# Not for users of these modules: they are described where the package has them, or need no page.
LEFT_OUT: Final = {f"{PACKAGE}.mesh", f"{PACKAGE}.protocol", f"{PACKAGE}.transport"}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name: str) -> None:
    page = FOLDER / name
    assert page.read_text(encoding="utf-8") == written(name), f"write it anew: {COMMAND}"


def test_every_exception_is_described_once() -> None:
    page = (FOLDER / "exceptions.md").read_text(encoding="utf-8")
    described = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    assert sorted(described) == sorted(each.__name__ for each in exceptions.exceptions())


def test_every_public_name_is_on_a_page_of_the_reference() -> None:
    """As `::: nuropb_rmq.NAME`; exceptions are on a page of their own."""
    shown = {
        name
        for page in API.glob("*.md")
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    errors = {each.__name__ for each in exceptions.exceptions()}
    public = {
        (module, name)
        for module in MODULES
        if module not in LEFT_OUT
        for name in public_names(import_module(module))
        if name not in errors and name not in ("CLASSIC", "QUORUM")
    }
    missing = {
        f"{module}.{name}"
        for module, name in public
        if not {f"{module}.{name}", f"{PACKAGE}.{name}"} & shown
    }
    assert not missing


class Service:
    """A service."""

    _service_name = "orders"

    async def echo(self) -> None:
        """A method."""


def test_a_mesh_has_the_defaults_of_a_transport_config() -> None:
    """By URL, and by TransportConfig: the page has them once."""
    config = TransportConfig(amqp_url=URL, service_name="orders")
    for mesh in (Mesh(URL, service=Service()), Mesh(config, service=Service())):
        assert mesh.transport.config == config
    alone = Mesh(URL).transport.config
    assert (alone.service_name, alone.client_only) == ("client", True)


def test_the_bounds_of_the_reliability_page_are_the_defaults() -> None:
    page = (OPERATIONS / "reliability.md").read_text(encoding="utf-8")
    config = TransportConfig(amqp_url=URL, service_name="orders")
    settings = {each.name for each in dataclasses.fields(config)}
    found = re.findall(r"`(\w+)` \(([\d,]+)( MiB| min|)\)", page)
    bounds = [(name, number, unit) for name, number, unit in found if name in settings]
    assert {name for name, _, _ in bounds} >= {"outbox_bytes", "handler_timeout", "max_json_depth"}
    for name, number, unit in bounds:
        assert getattr(config, name) == int(number.replace(",", "")) * UNITS[unit], name


# -- docstrings as Markdown -----------------------------------------------------------------


def test_a_docstring_becomes_markdown() -> None:
    docstring = """Do it.

    ::

        class A:

            b = 1

    name, other: of the thing, which
        goes on.
    more: text.

    True: this is no list.
    """
    assert markdown(docstring.replace("\n    ", "\n")) == (
        "Do it.\n\n```python\nclass A:\n\n    b = 1\n```\n\n"
        "- `name`, `other`: of the thing, which goes on.\n- `more`: text.\n\n"
        "True: this is no list."
    )


def test_exceptions_are_linked_outside_of_code() -> None:
    text = "Raises RetryLater, not Retry.\n\n```python\nraise RetryLater\n```\n\n`raise RetryLater`"
    assert linked(text) == text.replace(
        "Raises RetryLater", "Raises [RetryLater](../exceptions.md#retrylater)"
    )


def test_the_picture_has_the_names_of_the_code() -> None:
    for path, text in exchanges_image.pictures():
        assert path.read_text(encoding="utf-8") == text


def test_the_pages_name_how_they_are_made() -> None:
    for name in PAGES:
        assert COMMAND in (FOLDER / name).read_text(encoding="utf-8").splitlines()[0]
