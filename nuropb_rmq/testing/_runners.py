"""Find the plugin that runs a test's coroutine: `memory_mesh` stops its meshes by the same."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from typing import Any

import pytest

ASYNCIO = "pytest_asyncio.plugin"
ANYIO = "anyio.pytest_plugin"
_FIXTURES = {ASYNCIO: "_asyncio_fixtures", ANYIO: "_anyio_fixtures"}


def register_fixtures(config: pytest.Config) -> None:
    """Add the fixtures for the plugins that are there."""
    for plugin, module in _FIXTURES.items():
        if _is_there(config, plugin):
            try:
                fixtures = import_module(f"{__package__}.{module}")
            except TypeError:  # the plugin is too old: memory_mesh says so where it is used
                continue
            config.pluginmanager.register(fixtures, f"nuropb_rmq{module}")


def fixture_for(request: pytest.FixtureRequest) -> str:
    """Return the name of the fixture that the test needs; fail with the fix when there is none."""
    is_async = inspect.iscoroutinefunction(request.function)
    with_asyncio = _is_there(request.config, ASYNCIO) and _runs_asyncio(request.node, is_async)
    with_anyio = _is_there(request.config, ANYIO) and "anyio_backend" in request.fixturenames
    if with_anyio and with_asyncio and is_async:
        _fail(
            "expected one plugin to run the test, got two: it is marked for anyio, and "
            "pytest-asyncio in auto mode takes it too; set asyncio_mode = strict, or remove the "
            "mark"
        )
    if with_anyio:
        backend: str = request.getfixturevalue("anyio_backend_name")
        if backend != "asyncio":
            _fail(
                f"expected anyio's backend 'asyncio', got {backend!r}: nuropb_rmq is made for "
                "asyncio; write a fixture anyio_backend that returns 'asyncio'"
            )
        return "_memory_mesh_anyio"
    if not with_asyncio:
        _fail(_missing(request.config))
    if not request.config.pluginmanager.has_plugin(f"nuropb_rmq{_FIXTURES[ASYNCIO]}"):
        _fail("expected pytest-asyncio 1.0 or later: pip install --upgrade pytest-asyncio")
    return f"_memory_mesh_{_loop_scope(request)}"


def _missing(config: pytest.Config) -> str:
    expected = "expected a plugin that runs async tests, and none runs this one: "
    if _is_there(config, ASYNCIO):
        return f"{expected}mark it with @pytest.mark.asyncio, or set asyncio_mode = auto"
    install = "pip install pytest-asyncio, and set asyncio_mode = auto in pytest's settings"
    if _is_there(config, ANYIO):
        return f"{expected}mark it with @pytest.mark.anyio; or {install}"
    return f"{expected}{install}"


def _fail(problem: str) -> None:
    pytest.fail(f"memory_mesh: {problem}", pytrace=False)


def _is_there(config: pytest.Config, plugin: str) -> bool:
    module = sys.modules.get(plugin)
    return module is not None and config.pluginmanager.is_registered(module)


def _runs_asyncio(node: Any, is_async: bool) -> bool:
    """Return whether pytest-asyncio has a part in a test; in a plain function its fixtures may."""
    return not is_async or bool(sys.modules[ASYNCIO].is_async_test(node))


def _loop_scope(request: pytest.FixtureRequest) -> str:
    """Return the scope of the event loop in which pytest-asyncio runs the test."""
    mark = request.node.get_closest_marker("asyncio")
    options = {} if mark is None else mark.kwargs
    scope = options.get("loop_scope") or options.get("scope")
    return str(scope or request.config.getini("asyncio_default_test_loop_scope"))
