"""docs/operations/deployment.md: its manifests can be read, its unit is one, its commands exist."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from nuropb_rmq.asgi import health_routes
from nuropb_rmq.cli import main
from nuropb_rmq.health_probe import main as health
from nuropb_rmq.mesh.mesh import Mesh

from .support import files, page

PAGE = page("operations/deployment.md")
FILES = files(PAGE)
UNIT = dict(
    line.split("=", 1) for line in FILES["orders.service"].splitlines() if re.match(r"\w+=", line)
)
STOPPING = 5  # seconds that stop() takes beyond its grace


def exists(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Fail unless the command has such options."""
    name, verb, *rest = arguments
    assert Path(name).name == "nuropb-rmq"
    if verb == "health":
        assert health([*rest, "--help"]) == 0
    else:
        assert main([verb, *rest, "--help"]) == 0
    assert capsys.readouterr().err == ""


def grace_of(arguments: list[str]) -> float:
    return float(arguments[arguments.index("--grace") + 1])


def manifests(name: str) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in yaml.safe_load_all(FILES[name])}


def pod(kinds: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The specification of a pod, and of its container."""
    deployment = kinds["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    for other in ("PodDisruptionBudget", "Service"):
        if other in kinds:
            selector = kinds[other]["spec"]["selector"]
            assert selector.get("matchLabels", selector) == labels
    spec = deployment["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


def test_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    class Orders:
        _service_name = "orders"

        async def total(self) -> None:
            """Return nothing."""

    monkeypatch.setitem(sys.modules, "orders", SimpleNamespace(Orders=Orders))
    monkeypatch.setenv("NUROPB_RMQ_URL", "memory://deployment")
    names: dict[str, Any] = {"__name__": "service"}
    exec(compile(FILES["service.py"], "service.py", "exec"), names)
    assert names["mesh"].service_name == "orders"
    assert names["mesh"].transport.config.start_timeout == 30


def test_the_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = shlex.split(UNIT["ExecStart"])
    exists(arguments, capsys)
    assert float(UNIT["TimeoutStopSec"]) >= grace_of(arguments) + STOPPING
    assert UNIT["Type"] == "exec"
    if shutil.which("systemd-analyze") is None:  # in a container, say
        return
    path = tmp_path / "orders.service"
    program = next(filter(None, map(shutil.which, ("true", "sh"))))
    path.write_text(FILES["orders.service"].replace(arguments[0], program))
    told = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stderr) == (0, "")


def test_the_container(capsys: pytest.CaptureFixture[str]) -> None:
    commands = re.findall(r"CMD (\[.*\])$", FILES["Dockerfile"], re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        exists(json.loads(command), capsys)


def test_a_service(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = manifests("orders.yaml")
    assert set(kinds) == {"Deployment", "PodDisruptionBudget"}
    spec, container = pod(kinds)
    exists(container["args"], capsys)
    limit = spec["terminationGracePeriodSeconds"]
    assert limit >= grace_of(container["args"]) + STOPPING
    for name, option in (("livenessProbe", "--live"), ("readinessProbe", "--ready")):
        probe = container[name]
        command = probe["exec"]["command"]
        assert option in command
        exists(command, capsys)
        assert probe["timeoutSeconds"] > float(command[command.index("--timeout") + 1])
    mounted = {each["name"] for each in container["volumeMounts"]}
    assert mounted == {each["name"] for each in spec["volumes"]}


def test_a_web_front() -> None:
    kinds = manifests("front.yaml")
    assert set(kinds) == {"Deployment", "Service"}
    spec, container = pod(kinds)
    paths = {container[name]["httpGet"]["path"] for name in ("livenessProbe", "readinessProbe")}
    mesh = Mesh("memory://deployment")
    assert paths == {route.path for route in health_routes(mesh)}  # type: ignore[attr-defined]
    waits = [*container["lifecycle"]["preStop"]["exec"]["command"], *container["args"]]
    total = float(waits[1]) + float(waits[waits.index("--timeout-graceful-shutdown") + 1])
    assert spec["terminationGracePeriodSeconds"] >= total + 10 + STOPPING
