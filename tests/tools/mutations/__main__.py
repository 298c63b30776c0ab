"""Run the list: see the package's docstring. Exit status 0 only when all mutations are killed."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from .checkout import FAILED, PASSED, Checkout, checkout
from .listed import ROOT, DoesNotApplyError, Mutation, mutations

KILLED: Final = "killed"
SURVIVED: Final = "SURVIVED"
NOT_RUN: Final = "NOT RUN"
DOES_NOT_APPLY: Final = "DOES NOT APPLY"
SECONDS: Final = 300.0
"""For the tests of one mutation."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/mutate",
        description="Breaks the code as mutations.toml beside this says, one line at a time, "
        "in a copy of the checkout, and runs the tests that must fail then.",
    )
    parser.add_argument(
        "-k", metavar="TEXT", default="", help="only those with this in row, name or file"
    )
    parser.add_argument("-v", action="store_true", help="print what the tests said")
    return parser.parse_args()


def judge(there: Checkout, mutation: Mutation, *, verbose: bool) -> str:
    """Apply one mutation and run its tests: what came of it."""
    try:
        source = mutation.applied((ROOT / mutation.file).read_text())
    except DoesNotApplyError as e:
        print(f"    {e}", flush=True)
        return DOES_NOT_APPLY
    with there.broken(mutation.file, source):
        status, printed = there.test(mutation.tests, seconds=SECONDS)
    if verbose or status not in {PASSED, FAILED}:
        print(printed, flush=True)
    return {PASSED: SURVIVED, FAILED: KILLED}.get(status, NOT_RUN)


def pass_as_they_are(there: Checkout, wanted: Sequence[Mutation]) -> bool:
    """Run all tests once without any mutation: what fails anyway would kill everything."""
    tests = list(dict.fromkeys(test for each in wanted for test in each.tests))
    print(f"{len(tests)} tests or files of tests, with the code as it is …", flush=True)
    status, printed = there.test(tests, seconds=SECONDS + 20 * len(tests))
    if status != PASSED:
        print(printed)
    return status == PASSED


def main() -> int:
    """Run it."""
    given = arguments()
    wanted = [each for each in mutations() if given.k in f"{each.row} {each.name} {each.file}"]
    outcomes: Counter[str] = Counter()
    with checkout() as there:
        if not wanted or not pass_as_they_are(there, wanted):
            print("scripts/mutate: " + ("they fail without a mutation" if wanted else "no such"))
            return 1
        for each in wanted:
            began = time.monotonic()
            outcome = judge(there, each, verbose=given.v)
            took = time.monotonic() - began
            outcomes[outcome] += 1
            print(f"{outcome:<15} {took:4.0f} s  {each.row:<10} {each.name} ({each.file})")
            sys.stdout.flush()
    print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    return 0 if set(outcomes) == {KILLED} else 1


if __name__ == "__main__":
    sys.exit(main())
