"""The configuration of a node: rabbitmq.conf, its files, and its environment."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ._install import RABBITMQCTL, Installation

LOOPBACK = "127.0.0.1"
MANAGEMENT = "rabbitmq_management"
CONTROL = "rabbitmqctl"
"""A script in the node's folder: rabbitmqctl for this node, to be run in a shell."""

# Two schedulers: several nodes and the tests share a machine. They spin for a moment before they
# sleep: a node that loads its code hands thousands of small reads from one thread to another, and
# where waking a thread is dear (a sandbox), it starts in half the time. Idle, it costs nothing.
EMULATOR_ARGS = (
    "+S 2:2 +SDcpu 1:1 +SDio 2 +sbwt very_short +sbwtdcpu none +sbwtdio very_short "
    "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"
)


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """PEM files for the TLS listener; `verify_peer`: clients must show a certificate of the CA."""

    cafile: str | Path
    certfile: str | Path
    keyfile: str | Path
    verify_peer: bool = False


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one node, all on 127.0.0.1."""

    amqp: int
    tls: int
    management: int
    distribution: int
    epmd: int
    management_tls: int


@dataclass(frozen=True, slots=True)
class Member:
    """The name and cookie of a node in a cluster, and the epmd where nodes find each other."""

    name: str
    cookie: str = field(repr=False)
    epmd_port: int | None = None
    """Port of an epmd that other nodes use too, and that outlives this one; None: its own epmd."""

    @classmethod
    def alone(cls) -> Member:
        """Return a new name and cookie for a node without a cluster."""
        return cls(f"nuropb-{secrets.token_hex(4)}@localhost", secrets.token_hex(20))


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that stay the same over all starts of a node."""

    member: Member
    install: Installation
    tls: TLSFiles | None
    extra_config: str | Mapping[str, str]
    plugins: Sequence[str]

    def listeners(self, ports: Ports) -> dict[str, int]:
        """Return the ports that a node listens on, by their purposes."""
        found = {"AMQP": ports.amqp, "distribution": ports.distribution}
        if self.member.epmd_port is None:
            found["epmd"] = ports.epmd
        if self.tls is not None:
            found["AMQP over TLS"] = ports.tls
        if MANAGEMENT in self.plugins:
            found["management"] = ports.management
            if self.tls is not None:
                found["management over TLS"] = ports.management_tls
        return found

    def write(self, folder: Path, ports: Ports) -> None:
        """Fill the node's `folder`: configuration, plugins, certificates, Erlang cookie."""
        for name in ("log", "mnesia", "config"):
            (folder / name).mkdir(exist_ok=True)
        cookie = folder / ".erlang.cookie"
        if not cookie.exists():  # the first start; later ones keep the files
            _write_private(cookie, self.member.cookie.encode())
            (folder / "enabled_plugins").write_text(f"[{','.join(self.plugins)}].\n")
            if self.tls is not None:
                (folder / "tls").mkdir(mode=0o700)
                shutil.copyfile(self.tls.cafile, folder / "tls/ca.pem")
                shutil.copyfile(self.tls.certfile, folder / "tls/cert.pem")
                _write_private(folder / "tls/key.pem", Path(self.tls.keyfile).read_bytes())
        lines = self._configuration(self.install.inside(folder), ports)
        (folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        control = folder / CONTROL
        control.write_text(self._control(folder, ports))
        control.chmod(0o700)

    def _configuration(self, folder: str, ports: Ports) -> list[str]:
        lines = [
            f"listeners.tcp.1 = {LOOPBACK}:{ports.amqp}",
            # Little, so that no alarm blocks publishers in the middle of a test.
            "disk_free_limit.absolute = 50MB",
            "log.console = false",
            "log.file.level = info",
        ]
        if MANAGEMENT in self.plugins:
            lines.append(f"management.tcp.ip = {LOOPBACK}")
            lines.append(f"management.tcp.port = {ports.management}")
        if self.tls is not None:
            asked = self.tls.verify_peer
            lines += [
                f"listeners.ssl.1 = {LOOPBACK}:{ports.tls}",
                f"ssl_options.cacertfile = {folder}/tls/ca.pem",
                f"ssl_options.certfile = {folder}/tls/cert.pem",
                f"ssl_options.keyfile = {folder}/tls/key.pem",
                f"ssl_options.verify = {'verify_peer' if asked else 'verify_none'}",
                f"ssl_options.fail_if_no_peer_cert = {str(asked).lower()}",
            ]
        if self.tls is not None and MANAGEMENT in self.plugins:
            lines += [
                f"management.ssl.ip = {LOOPBACK}",
                f"management.ssl.port = {ports.management_tls}",
                f"management.ssl.cacertfile = {folder}/tls/ca.pem",
                f"management.ssl.certfile = {folder}/tls/cert.pem",
                f"management.ssl.keyfile = {folder}/tls/key.pem",
            ]
        if self.install.major_version() >= 4:
            # A later release will set this: nothing of ours may need transient non-exclusive
            # queues.
            lines.append("deprecated_features.permit.transient_nonexcl_queues = false")
        if isinstance(self.extra_config, str):
            lines.append(self.extra_config)
        else:
            lines += [f"{key} = {value}" for key, value in self.extra_config.items()]
        return lines

    def _control(self, folder: Path, ports: Ports) -> str:
        """Return a script: name, epmd and cookie of the node are known to nothing else."""
        values = [f"{name}={value}" for name, value in self.environment(folder, ports).items()]
        command = shlex.join(["env", "-i", *values, *self.install.command(RABBITMQCTL)])
        return f'#!/bin/sh\ncd / && exec {command} "$@"\n'

    def environment(self, folder: Path, ports: Ports) -> dict[str, str]:
        """Return all environment variables of the node's programs; of ours, only PATH."""
        inside = self.install.inside(folder)
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {
            "PATH": path if self.install.root is not None else os.environ.get("PATH", path),
            "HOME": inside,
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(ports.epmd),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            # Makes rabbitmq-server exec the emulator, instead of waiting for it as a child.
            "detached": "1",
            "RABBITMQ_NODENAME": self.member.name,
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(ports.amqp),
            "RABBITMQ_DIST_PORT": str(ports.distribution),
            "RABBITMQ_MNESIA_BASE": f"{inside}/mnesia",
            "RABBITMQ_LOG_BASE": f"{inside}/log",
            "RABBITMQ_CONFIG_FILE": f"{inside}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{inside}/advanced.config",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{inside}/config",
            "RABBITMQ_CONF_ENV_FILE": f"{inside}/rabbitmq-env.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{inside}/enabled_plugins",
            "RABBITMQ_PID_FILE": f"{inside}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": EMULATOR_ARGS,
        }


def _write_private(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
