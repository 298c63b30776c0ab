"""gunicorn forks its workers: each starts a mesh of its own, and ends it.

gunicorn -c python:examples.blocking.gunicorn_conf examples.blocking.wsgi:application
"""

from __future__ import annotations

from typing import Any

from .wsgi import mesh

workers = 2
threads = 8


def post_fork(server: Any, worker: Any) -> None:
    """In each worker, before its first request."""
    mesh.start()


def worker_exit(server: Any, worker: Any) -> None:
    """In each worker, after its last request."""
    mesh.stop()
