"""Stage the site's source, or check what was built from it.

python -m tests.tools.site stage
python -m tests.tools.site check
"""

from __future__ import annotations

import sys

from .checking import problems
from .staging import ROOT, STAGED, stage


def main(arguments: list[str]) -> int:
    """Return the exit status."""
    match arguments:
        case ["stage"]:
            stage()
            return 0
        case ["check"]:
            found = list(problems(ROOT / "site", STAGED))
            for problem in found:
                print(problem)
            return 1 if found else 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
