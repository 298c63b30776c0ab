"""The demo without RabbitMQ: all of it on memory://, in this process."""

from __future__ import annotations

import platform
import time

from .mishaps import asked, dead_letter, retry, trace
from .parcels import Cast, playing
from .transcript import Transcript

__all__ = ["URL", "in_memory", "tell_story"]

URL = "memory://demo"


async def tell_story(transcript: Transcript) -> None:
    """All steps that need no broker."""
    transcript.step("Start")
    began = time.monotonic()
    async with playing(URL) as cast:
        transcript.line("broker", f"{URL}, in this process: no RabbitMQ")
        told = f"parcels, warehouse and a client, Python {platform.python_version()}"
        transcript.line("services", told, time.monotonic() - began)
        await calls(transcript, cast)
        await trace(transcript, cast)
        await retry(transcript, cast)
        await dead_letter(transcript, cast)
        transcript.step("A clean stop")
        began = time.monotonic()
    transcript.line("all", "have ended; memory:// keeps nothing", time.monotonic() - began)


async def calls(transcript: Transcript, cast: Cast) -> None:
    """A request that is answered, and three that are not."""
    transcript.step("A request")
    told = await asked(transcript, cast, "parcels", "price", kilograms=3)
    answer = {"kilograms": 3, "price": "7.90"}
    transcript.same("the answer is that parcel's price", str(answer), told)
    transcript.step("A request that fails in the service")
    told = await asked(transcript, cast, "parcels", "price", kilograms=40)
    error = "NuropbRemoteError: ValueError: 40 kg are too heavy"
    transcript.same("the client knows what the service raised", error, told)
    transcript.step("A request with a wrong parameter")
    told = await asked(transcript, cast, "parcels", "price", kilograms="three")
    transcript.check(
        "it names the parameter, and the method was not called",
        "params.kilograms" in told,
        expected="an error about params.kilograms",
        got=told,
    )
    transcript.step("A request to a service that does not run")
    told = await asked(transcript, cast, "invoices", "send", order="A-1001")
    transcript.check(
        "it ends with NuropbNotDeliveredError, at once",
        told.startswith("NuropbNotDeliveredError: "),
        expected="NuropbNotDeliveredError",
        got=told,
    )


async def in_memory(transcript: Transcript) -> None:
    """One step for the demo with a broker: the same services without it."""
    transcript.step("The same services without a broker: memory://")
    began = time.monotonic()
    async with playing(URL) as cast:
        transcript.line("started", f"on {URL}, in this process", time.monotonic() - began)
        told = await asked(transcript, cast, "parcels", "send", order="A-1001")
    answer = {"order": "A-1001", "parcel": "P-1"}
    transcript.same("the same answer, as tests would have it", str(answer), told)
    transcript.line("more", "scripts/demo --memory")
