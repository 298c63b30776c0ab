"""A run as it is kept: what pytest-benchmark wrote, without what nothing is computed from.

{"date", "broker", "quick", "machine": {"cpu", "cores", "python"}, "scenarios": {name: {"sides",
"versions", "missing", "packages"}}}; a side has each of its values, by name, for all rounds.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

Runs = Mapping[str, Sequence[float]]
"""One side: values by name, of each round."""

PARTS: Final = ("sides", "versions", "missing", "packages")
"""Of a scenario."""
_DIGITS: Final = 5
"""That are kept of a number: far more than two rounds agree in."""


def compact(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Take a run out of the JSON of pytest-benchmark."""
    benchmarks = raw["benchmarks"]
    machine = raw["machine_info"]
    cpu = machine["cpu"]
    first = benchmarks[0]["extra_info"]
    return {
        "date": raw["datetime"][:10],
        "broker": first["broker"],
        "quick": first["quick"],
        "machine": {
            "cpu": cpu.get("brand_raw", platform.processor()),
            "cores": cpu["count"],
            "python": machine["python_version"],
        },
        "scenarios": {each["group"]: _scenario(each["extra_info"]) for each in benchmarks},
    }


def _scenario(extra: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: extra.get(name, {}) for name in PARTS}
    kept["sides"] = {
        label: {name: [_short(each[name]) for each in runs] for name in runs[0]}
        for label, runs in extra["sides"].items()
        if runs
    }
    return kept


def _short(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.{_DIGITS}g}")


def write(kept: Mapping[str, Any], path: Path) -> None:
    """Write a run, with a line for each scenario."""
    head = {name: each for name, each in kept.items() if name != "scenarios"}
    lines = (f"{json.dumps(name)}: {_line(each)}" for name, each in kept["scenarios"].items())
    whole = f'{_line(head)[:-1]},"scenarios":{{\n' + ",\n".join(lines) + "\n}}\n"
    path.write_text(whole, encoding="utf-8")


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read(path: Path) -> Mapping[str, Any]:
    """Read a run, kept or as pytest-benchmark wrote it."""
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return compact(found) if "benchmarks" in found else found
