"""Draw docs/images/doctor.svg: what doctor prints about a recorded broker with faults.

`python -m tests.tools.doctor_image`
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from nuropb_rmq.cli.doctor import show
from nuropb_rmq.cli.output import Output
from nuropb_rmq.dead_letters.groups import DeadLetterGroup
from nuropb_rmq.doctor.checklist import judge
from nuropb_rmq.protocol.constants import MessageType

from ..unit.doctor.test_checks import facts_of
from .screenshot import own_fonts

IMAGE = Path(__file__).parents[2] / "docs" / "images" / "doctor.svg"
COLUMNS = 96


def draw() -> str:
    """Return the image."""
    facts = facts_of("4.3.6")
    bindings = facts.found["bindings"]
    bindings[:] = [each for each in bindings if each["routing_key"] != "shop.*"]
    bindings.append(
        {
            "source": "nuropb-events-exchange",
            "destination": "nuropb-orders-sq",
            "destination_type": "queue",
            "routing_key": "cart.#",
            "arguments": {},
        }
    )
    group = DeadLetterGroup(
        own=True,
        reason="rejected",
        type=MessageType.COMMAND,
        method="charge",
        error="TimeoutError",
        shape=None,
        count=280,
        first=datetime(2026, 11, 28, 2, 14, tzinfo=UTC),
    )
    facts.found["letters"] = (group,)
    out = Output(json=False)
    with open("/dev/null", "w", encoding="utf-8") as nowhere:
        console = Console(
            record=True, width=COLUMNS, file=nowhere, force_terminal=True, highlight=False
        )
        vars(out)["console"] = console
        show(out, judge(facts))
    return own_fonts(
        console.export_svg(
            title="nuropb-rmq doctor orders:Orders", theme=MONOKAI, unique_id="doctor"
        )
    )


if __name__ == "__main__":
    IMAGE.parent.mkdir(exist_ok=True)
    IMAGE.write_text(draw(), encoding="utf-8")
