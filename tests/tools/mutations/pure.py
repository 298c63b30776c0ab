"""Many small mutations of modules that need no broker, by their syntax: `scripts/mutate --pure`.

mutmut changes what stands within functions alone, and cosmic-ray starts a process for each. Here
policy is a table, a constant or the default of a field, and a process takes longer than the tests.
So each mutation has a fork of one process; of each module a sample is drawn, by a seed.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import random
import sys
from pathlib import Path
from typing import Final

import pytest

from .checkout import PASSED, Checkout, checkout
from .listed import ROOT
from .syntax import changes

TESTS: Final = {
    "protocol/acknowledgement": "protocol/test_acknowledgement",
    "protocol/put_back": "protocol/test_put_back",
    "protocol/bounded": "protocol/test_bounded",
    "config/address": "config/test_address config/test_settings",
    "config/settings": "config/test_settings test_reference",
    "amqp/consumer": "amqp/test_consumer",
    "transport/deadlines": "transport/test_deadlines",
    "protocol/encryption": "protocol/test_encryption protocol/test_encryption_errors",
    "protocol/writer": "protocol/test_writer protocol/test_constants",
    "protocol/reader": "protocol/test_reader protocol/test_writer protocol/test_put_back",
    "service/marks": "service/test_marks service/test_decorators",
    "amqp/outbox": "amqp/test_outbox",
    "amqp/outgoing": "amqp/test_outgoing amqp/test_outbox",
    "printable": "test_printable",
    "transport/redelivery": "transport/test_redelivery",
    "amqp/refused": "amqp/test_refused",
    "transport/routes": "transport/test_routes",
    "protocol/serialization": "protocol/test_serialization protocol/test_large_bodies",
    "config/tokens": "config/test_tokens",
    "service/topics": "service/test_topics",
    "amqp/deliveries": "amqp/test_deliveries",
    "amqp/frames": "amqp/test_frames amqp/test_frames_errors amqp/test_captures",
    "amqp/heartbeat": "amqp/test_router",
    "amqp/outflow": "amqp/test_router_writing",
    "amqp/channel": "amqp/test_router amqp/test_router_writing",
    "amqp/router": "amqp/test_router amqp/test_router_writing",
}
"""Module → the unit tests that must notice, in tests/unit."""
SECONDS: Final = 90.0


def test(folder: Path, module: str, *, compiles: bool) -> int | None:
    """Run the tests of a module in a fork: pytest's exit status."""
    tests = [f"tests/unit/{name}.py" for name in TESTS[module].split()]
    options = ["-qx", "-o", "timeout=20", "-m", "not broker and not long", "--hypothesis-seed=0"]
    quiet = ["-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]

    def run() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]
        sys.path[0] = str(folder)
        sys.dont_write_bytecode = not compiles
        os.chdir(folder)
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os._exit(pytest.main([*options, *quiet, *tests]))

    fork = multiprocessing.get_context("fork").Process(target=run)
    fork.start()
    fork.join(SECONDS)
    fork.kill()
    fork.join()
    return fork.exitcode


def survivors(there: Checkout, module: str, sample: int, seed: int) -> int:
    """Try a sample of one module's changes; how many survived."""
    file = f"nuropb_rmq/{module}.py"
    source = (ROOT / file).read_bytes()
    if test(there.folder, module, compiles=True) != PASSED:
        sys.exit(f"scripts/mutate: {TESTS[module]}: they fail without a mutation")
    every = changes(source)
    chosen = random.Random(f"{seed} {module}").sample(every, min(sample, len(every)))
    left = 0
    for change in sorted(chosen):
        with there.broken(file, change.applied(source)):
            if test(there.folder, module, compiles=False) == PASSED:
                left += 1
                print(f"SURVIVED  {file}:{change.told(source)}", flush=True)
    print(f"{file}: {left} of {len(chosen)} survived, of {len(every)} that there are", flush=True)
    return left


def main() -> int:
    """Run it. Survivors are for somebody to read: exit status 0 when all could be tried."""
    parser = argparse.ArgumentParser(prog="scripts/mutate --pure", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(TESTS))
    parser.add_argument("--sample", type=int, default=12, help="mutations of each module (12)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (1)")
    given = parser.parse_args()
    if unknown := set(given.modules) - set(TESTS):
        parser.error(f"no such module: {', '.join(unknown)}")
    for heavy in ("aio_pika", "cryptography.fernet", "httpx", "hypothesis", "msgspec", "pydantic"):
        importlib.import_module(heavy)
    with checkout() as there:
        left = sum(
            survivors(there, each, given.sample, given.seed) for each in given.modules or TESTS
        )
    print(f"{left} survived")
    return 0


if __name__ == "__main__":
    sys.exit(main())
