"""A service decorated with nuropb's own decorators, served by us; runs in .venv-peer.

    python -m tests.interop.decorated_service Mesh|RMQAPI URL

It says "ready", and ends when stdin does.
"""

# nuropb's decorators carry no types, and it is not there where types are checked.
# mypy: disable-error-code="untyped-decorator, unreachable, unused-ignore"

import asyncio
import functools
import logging
import sys
from typing import Any, Dict, List, Optional  # noqa: UP035 - as programs of its time have it

from nuropb.contexts.context_manager import (  # type: ignore[import-not-found,unused-ignore]
    NuropbContextManager,
)
from nuropb.contexts.context_manager_decorator import (  # type: ignore[import-not-found,unused-ignore]
    nuropb_context,
)
from nuropb.contexts.describe import (  # type: ignore[import-not-found,unused-ignore]
    publish_to_mesh,
)
from nuropb.interface import (  # type: ignore[import-not-found,unused-ignore]
    NuropbCallAgain,
    NuropbSuccess,
    NuropbValidationError,
)

import nuropb_rmq as ours
from nuropb_rmq import RMQAPI, Mesh

from ..encrypting import private_key

ASKED: List[str] = []  # noqa: UP006


def claims_of(token: str) -> Optional[Dict[str, Any]]:  # noqa: UP006, UP045
    """Refuses all but one token."""
    ASKED.append(token)
    return {"user": "ada"} if token == "good" else None


def counted(method: Any) -> Any:
    """A decorator of the program's own."""

    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return wrapper


class Decorated:
    """Decorated by nuropb"""

    _service_name = "decorated"
    _private_key = private_key("decorated")

    def __init__(self) -> None:
        self.calls = 0

    @nuropb_context
    @publish_to_mesh(authorize_func=claims_of)
    def mine(self, ctx: Any, number: int = 0) -> Any:
        """Mine"""
        assert isinstance(ctx, NuropbContextManager)
        ctx.add_event({"topic": "decorated.done", "event": number})
        return [ctx.user_claims, number]

    @nuropb_context(context_parameter="context")
    @publish_to_mesh(description="Later")
    async def later(self, context: Any) -> Any:
        assert isinstance(context, NuropbContextManager)
        return dict(context.context)

    @publish_to_mesh(authorize_func=claims_of)
    def guarded(self) -> str:
        return "open"

    @publish_to_mesh(requires_encryption=True)
    def secret(self, pin: str) -> str:
        return pin

    @publish_to_mesh(hide_method=True)
    def hidden(self) -> None: ...

    @nuropb_context(suppress_exceptions=True)
    @publish_to_mesh
    def suppressed(self, ctx: Any) -> str:
        with ctx:
            raise LookupError("suppressed")
        return "after"

    def again(self) -> int:
        self.calls += 1
        if self.calls == 1:
            raise NuropbCallAgain("not yet")
        return self.calls

    def succeed(self) -> None:
        events = [{"topic": "decorated.done", "payload": "success", "target": []}]
        raise NuropbSuccess(result="ok", events=events)

    def refuse(self) -> None:
        raise NuropbValidationError("not so")

    @publish_to_mesh(authorize_func=claims_of)
    @nuropb_context
    def other_way_round(self, ctx: Any) -> Any:
        assert isinstance(ctx, NuropbContextManager)
        return ctx.user_claims

    @publish_to_mesh
    @nuropb_context
    @publish_to_mesh(authorize_func=claims_of)
    def twice(self, ctx: Any) -> Any:
        return ctx.user_claims

    @ours.publish_to_mesh(authorize_func=claims_of)
    @counted
    @nuropb_context
    def below_another(self, ctx: Any) -> Any:
        return ctx.user_claims

    def asked(self) -> Any:
        return ASKED


async def main(kind: str, url: str) -> None:
    """Serve until stdin ends."""
    loop = asyncio.get_running_loop()
    if kind == "Mesh":
        async with Mesh(url, service=Decorated()):
            print("ready", flush=True)
            await loop.run_in_executor(None, sys.stdin.read)
        return
    api = RMQAPI(url, service_name="decorated", service_instance=Decorated())
    await api.connect()
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    await api.disconnect()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(*sys.argv[1:]))
