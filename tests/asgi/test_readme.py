"""What README.md shows of FastAPI works when it is copied."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..mesh.support import Meshes
from .support import Served

README = Path(__file__).parents[2] / "README.md"
URL = "amqp://guest:guest@localhost/"


class Orders:
    async def get(self, order_id: str) -> Any:
        return {"order_id": order_id}


async def test_the_lines_for_fastapi(meshes: Meshes) -> None:
    await meshes.serve(Orders())
    (code,) = re.findall(r"```python\n([^`]*from fastapi [^`]*)```", README.read_text())
    assert URL in code
    names: dict[str, Any] = {}
    exec(compile(code.replace(URL, meshes.url), "README.md", "exec"), names)
    async with Served(names["app"]) as served:
        assert await served.get("/orders/A-1") == (200, {"order_id": "A-1"})
        assert (await served.get("/readyz"))[0] == (await served.get("/livez"))[0] == 200
