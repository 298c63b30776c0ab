"""A Prometheus server of Debian's, which scrapes what a test serves."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ALERTS = Path(__file__).parents[3] / "docs" / "prometheus" / "alerts.yml"
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{alerts}"]
scrape_configs:
  - job_name: nuropb
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Server:
    """Its HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the data of an answer; fail with its error."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", f"{path} {parameters}: {answer['error']}"
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression at this moment."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found


@contextmanager
def prometheus(program: Path, folder: Path, scraped: int) -> Iterator[Server]:
    """Run a server that scrapes this port of loopback each second."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"127.0.0.1:{free.getsockname()[1]}"
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(alerts=ALERTS, port=scraped), encoding="utf-8")
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                *(str(program), f"--config.file={config}", f"--web.listen-address={url}"),
                *(f"--storage.tsdb.path={folder / 'data'}", "--log.level=warn"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 30
        while not _ready(f"http://{url}/-/ready"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield Server(f"http://{url}")
    finally:
        process.terminate()
        process.wait(30)


def _ready(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
