"""Ask pyright whether the types of all public names are complete, as users' checkers see them.

`python -m tests.tools.public_types` needs pyright on PATH, as scripts/check has it. It prints what
is unknown, and fails unless nothing is.
`pyright --verifytypes` counts every module without an underscore in its name; here only the public
names count, and what they refer to.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from tests.tools.public_api import MODULES, PACKAGE, ROOT, public_names

PYRIGHT: Final = ("pyright", "--outputjson", "--verifytypes", PACKAGE, "--ignoreexternal")


def report() -> dict[str, Any]:
    """Return pyright's report on the package in this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        PYRIGHT, cwd=ROOT, env={**os.environ, "PATH": path}, stdout=subprocess.PIPE, check=False
    )
    said: dict[str, Any] = json.loads(ran.stdout)["typeCompleteness"]
    return said


def homes() -> set[str]:
    """The public names, and where they are defined."""
    found = set()
    for module in map(import_module, MODULES):
        for name in public_names(module):
            found.add(f"{module.__name__}.{name}")
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                found.add(f"{value.__module__}.{value.__qualname__}")
    return found


def main() -> int:
    """Print every public symbol whose type is not completely known; return how many there are."""
    public = homes()
    symbols = [
        each
        for each in report()["symbols"]
        if any(f"{each['name']}.".startswith(f"{name}.") for name in public)
    ]
    unknown = [each for each in symbols if not each["isTypeKnown"] or each["isTypeAmbiguous"]]
    for each in unknown:
        print(each["name"])
        for diagnostic in each["diagnostics"]:
            line = diagnostic.get("range", {}).get("start", {}).get("line", -1) + 1
            print(f"  {diagnostic.get('file', '')}:{line}: {diagnostic['message']}")
    print(f"{len(symbols) - len(unknown)} of {len(symbols)} public symbols have known types")
    return len(unknown) + (not symbols)


if __name__ == "__main__":
    sys.exit(main() and 1)
