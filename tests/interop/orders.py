"""The service of these tests: one class, which either side can put on the mesh.

nuropb reads annotations at run time and needs classes there, not their names as text: hence no
`from __future__ import annotations` in this file.
"""

import asyncio
from collections import Counter
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa


class Orders:
    """An orders service.

    `call_again` is the exception with which the side that runs it asks for a call-again. Methods
    that begin with an underscore are not on the mesh: there the tests learn what has happened.
    """

    _service_name = "orders"
    _version = "1"

    def __init__(
        self, call_again: type[Exception], private_key: rsa.RSAPrivateKey | None = None
    ) -> None:
        self._call_again = call_again
        self._private_key = private_key
        self._calls: list[dict[str, Any]] = []
        self._again: Counter[str] = Counter()
        self._gate = asyncio.Event()

    def _note(self, method: str, **params: Any) -> None:
        self._calls.append({"method": method, **params})

    def _release(self) -> None:
        self._gate.set()

    def echo(self, text: str, number: int = 0) -> dict:  # type: ignore[type-arg]
        """Answer with the parameters."""
        self._note("echo", text=text, number=number)
        return {"text": text, "number": number}

    async def echo_later(self, text: str, number: int = 0) -> dict:  # type: ignore[type-arg]
        """The same, after another turn of the loop."""
        await asyncio.sleep(0)
        return self.echo(text, number)

    def who(self, ctx: dict, greeting: str) -> str:  # type: ignore[type-arg]
        """Answer with something from the context of the call."""
        return f"{greeting} {ctx['user']}"

    # What nuropb's decorator of that name sets: this method is given the context.
    who.__nuropb_context__ = True  # type: ignore[attr-defined]

    def fail(self, text: str) -> None:
        """Raise what is no error of nuropb's."""
        self._note("fail", text=text)
        raise LookupError(text)

    async def fail_later(self, text: str) -> None:
        """The same from a coroutine."""
        await asyncio.sleep(0)
        self.fail(text)

    def again(self, key: str, times: int) -> str:
        """Ask for a call-again so many times."""
        self._note("again", key=key)
        self._again[key] += 1
        if self._again[key] <= times:
            raise self._call_again("not yet")
        return f"done at call {self._again[key]}"

    async def again_later(self, key: str, times: int) -> str:
        """The same from a coroutine."""
        await asyncio.sleep(0)
        return self.again(key, times)

    async def hold(self, text: str) -> str:
        """Answer when the test says so."""
        self._note("hold", text=text)
        await self._gate.wait()
        return text

    def pay(self, card: str) -> str:
        """To be called encrypted only."""
        self._note("pay", card=card)
        return f"paid with {card}"

    # What nuropb's publish_to_mesh sets: the description tells callers that they must encrypt.
    pay.__nuropb_requires_encryption__ = True  # type: ignore[attr-defined]

    def _handle_event_(
        self, topic: str, event: Any, target: list[Any] | None, context: dict[str, Any]
    ) -> None:
        self._note("event", topic=topic, event=event, target=target, context=context)
        if isinstance(event, dict) and event.get("fail"):
            raise LookupError("the event cannot be handled")
