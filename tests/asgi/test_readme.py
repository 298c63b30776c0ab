"""What README.md shows of FastAPI works when it is copied."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from examples.orders.service import Orders

from ..mesh.support import Meshes
from .support import Served

README = Path(__file__).parents[2] / "README.md"
URL = "amqp://guest:guest@localhost/"


async def test_the_lines_for_fastapi(meshes: Meshes) -> None:
    orders = Orders()
    await meshes.serve(orders)
    (code,) = re.findall(r"```python\n([^`]*from fastapi [^`]*)```", README.read_text())
    assert URL in code
    names: dict[str, Any] = {}
    exec(compile(code.replace(URL, meshes.url), "README.md", "exec"), names)
    async with Served(names["app"]) as served:
        (path,) = re.findall(r"curl -X POST 'localhost:8000(/[^']*)'", README.read_text())
        placed = await served.http.post(path)
        order = placed.json()
        assert (placed.status_code, order["item"], order["count"]) == (200, "lamp", 2)
        assert asdict(await orders.get(order["order_id"])) == order
        assert (await served.get("/readyz"))[0] == (await served.get("/livez"))[0] == 200
