"""An HTTP front for the orders service in plain WSGI, below which Django and Flask are the same.

python -m examples.blocking.wsgi 8000
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import parse_qsl
from wsgiref.simple_server import WSGIServer, make_server

from nuropb_rmq import (
    NuropbException,
    NuropbNotSentError,
    NuropbRemoteError,
    NuropbTimeoutError,
    NuropbValidationError,
    blocking,
)

from ..orders.running import broker
from .orders import OrdersAPI

TIMEOUT = 5.0  # seconds that a call to the mesh may take, and so, about, a call to this front


class Front:
    """The application. All threads of the server share one mesh, and one client."""

    def __init__(self, mesh: blocking.Mesh) -> None:
        self._orders = mesh.client(OrdersAPI, timeout=TIMEOUT)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request; see PEP 3333."""
        try:
            status, content = self._view(environ)
        except NuropbException as e:
            status, content = answer(e)
        body = json.dumps(content).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(status, headers)
        return [body]

    def _view(self, environ: dict[str, Any]) -> tuple[str, Any]:
        query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
        match environ["REQUEST_METHOD"], environ["PATH_INFO"].strip("/").split("/"):
            case "POST", ["orders"]:
                order = self._orders.place(query.get("item", ""), number(query, "count"))
                return "201 Created", asdict(order)
            case "GET", ["orders", order_id]:
                return "200 OK", asdict(self._orders.get(order_id))
            case "GET", ["orders", order_id, "total"]:
                return "200 OK", {"total": self._orders.total(order_id)}
        return "404 Not Found", {"detail": "there is no such page"}


def number(query: dict[str, str], name: str) -> int:
    """A parameter that is a number, by default 1."""
    text = query.get(name, "1")
    if not text.isdecimal():
        raise NuropbValidationError(f"{name}: expected a number")
    return int(text)


def answer(error: NuropbException) -> tuple[str, Any]:
    """Return the part of an error that a caller may know."""
    match error:
        case NuropbRemoteError(error="LookupError"):
            return "404 Not Found", {"detail": error.description}
        case NuropbValidationError():
            return "422 Unprocessable Entity", {"detail": error.description}
        case NuropbRemoteError():
            return "502 Bad Gateway", {"detail": "the orders service has failed"}
        case NuropbTimeoutError() if not isinstance(error, NuropbNotSentError):
            return "504 Gateway Timeout", {"detail": "the orders service has not answered in time"}
    return "503 Service Unavailable", {"detail": "the orders service cannot be reached"}


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each request."""

    daemon_threads = True


mesh = blocking.Mesh(broker(), service_name="front")
application = Front(mesh)


def main(port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with mesh, make_server("127.0.0.1", port, application, Server) as server:
        print(f"http://127.0.0.1:{server.server_port}/", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except KeyboardInterrupt:
        pass
    except NuropbException as e:
        sys.exit(f"{type(e).__name__}: {e}")
