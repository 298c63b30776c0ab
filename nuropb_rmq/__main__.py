"""`python -m nuropb_rmq`, and the command `nuropb-rmq`."""

import sys


def main() -> int:
    """Run the command; return its exit status."""
    if sys.argv[1:2] == ["health"]:  # a probe loads nothing that it does not need
        from .health_probe import main as health  # noqa: PLC0415

        return health(sys.argv[2:])
    from .cli import main as command  # noqa: PLC0415

    return command()


if __name__ == "__main__":
    raise SystemExit(main())
