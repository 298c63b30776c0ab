"""The script rabbitmqctl of a node: it is quoted, and has the environment of the node alone."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from nuropb_rmq.testing._install import Installation
from nuropb_rmq.testing._settings import Member, Ports, Settings

ENV = "/usr/bin/env"


def written(folder: Path, root: Path | None = None) -> Path:
    """Write a node's folder; the script."""
    member = Member("nuropb-1@localhost", "a-cookie-of-its-own")
    settings = Settings(member, Installation(root), tls=None, extra_config="", plugins=())
    settings.write(folder, Ports(1, 2, 3, 4, 5, 6))
    return folder / "rabbitmqctl"


def test_a_script_of_a_folder_with_an_odd_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nuropb_rmq.testing._settings.RABBITMQCTL", ENV)
    folder = tmp_path / 'it\'s "$HOME"'
    folder.mkdir()
    script = written(folder)
    assert stat.S_IMODE(script.stat().st_mode) == 0o700
    assert "a-cookie" not in script.read_text(encoding="utf-8")
    environment = {**os.environ, "RABBITMQ_CTL_ERL_ARGS": "-a-user-has"}
    told = subprocess.check_output([script, "ADDED=a b $c"], env=environment, text=True)
    lines = told.splitlines()
    wanted = ("RABBITMQ_NODENAME=nuropb-1@localhost", "ERL_EPMD_PORT=5", f"HOME={folder}")
    for line in (*wanted, "ADDED=a b $c"):
        assert line in lines
    assert not any(line.startswith("RABBITMQ_CTL_ERL_ARGS") for line in lines)


def test_a_script_for_a_chroot(tmp_path: Path) -> None:
    folder = tmp_path / "tmp" / "node"
    folder.mkdir(parents=True)
    text = written(folder, tmp_path).read_text(encoding="utf-8")
    assert "HOME=/tmp/node " in text
    assert f" {tmp_path} /usr/lib/rabbitmq/bin/rabbitmqctl " in text
