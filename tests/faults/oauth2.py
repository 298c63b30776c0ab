"""An identity server, as far as a broker needs one: a key, and access tokens signed with it.

The tokens are JSON Web Tokens (RFC 7519) with an RSA signature (RS256, RFC 7518, 3.3), as
RabbitMQ's rabbitmq_auth_backend_oauth2 reads them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from nuropb_rmq import AccessToken
from nuropb_rmq.testing import RabbitMQNode

EVERYTHING: Final = (
    "rabbitmq.configure:*/* rabbitmq.write:*/*/* rabbitmq.read:*/*/* rabbitmq.tag:administrator"
)
"""The scopes of a token: each a permission, a virtual host, a name, and a routing key."""
NOTHING: Final = "rabbitmq.read:*/nothing-that-is-there"
"""Admits to every virtual host, and to nothing in it."""
USER: Final = "robin"


class IdentityServer:
    """Signs tokens. Each has a key of its own; a broker knows those that it was told."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)

    def sign(self, *, lives: float, scope: str = EVERYTHING) -> tuple[str, float]:
        """A token that is valid for so many seconds, a whole one less at most; and how many."""
        expiry = int(time.time() + lives)
        header = {"alg": "RS256", "typ": "JWT", "kid": "key"}
        claims = {"sub": USER, "aud": "rabbitmq", "exp": expiry, "scope": scope.split()}
        text = b".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        signature = self._key.sign(text, padding.PKCS1v15(), hashes.SHA256())
        return f"{text.decode()}.{_base64(signature).decode()}", expiry - time.time()

    def introduce(self, node: RabbitMQNode) -> None:
        """Let a broker, which has the plugin, know the key. It blocks."""
        public = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        pem = public.decode().strip().replace("\n", "\\n")
        keys = f'#{{<<"key">> => {{pem, <<"{pem}">>}}}}'
        node.rabbitmqctl(
            "eval",
            "application:set_env(rabbitmq_auth_backend_oauth2, key_config, "
            f'[{{default_key, <<"key">>}}, {{signing_keys, {keys}}}]).',
        )


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def oauth2_node() -> RabbitMQNode:
    """A node that takes access tokens for passwords; guest's password is one still."""
    return RabbitMQNode(
        plugins=("rabbitmq_management", "rabbitmq_auth_backend_oauth2"),
        extra_config={
            "auth_backends.1": "rabbit_auth_backend_oauth2",
            "auth_backends.2": "internal",
            "auth_oauth2.resource_server_id": "rabbitmq",
        },
    )


class Provider:
    """A token provider; `give` may be changed while it is in use, and may raise."""

    def __init__(self, give: Callable[[], AccessToken]) -> None:
        self.give = give
        self.asked: list[float] = []
        """When, by the loop's clock."""
        self.given: list[AccessToken] = []
        self.answering = asyncio.Event()
        """While it is not set, whoever asks waits for it."""
        self.answering.set()

    async def __call__(self) -> AccessToken:
        self.asked.append(time.monotonic())
        await self.answering.wait()
        return self._give()

    def in_a_thread(self) -> AccessToken:
        """The same as a synchronous provider."""
        self.asked.append(time.monotonic())
        return self._give()

    def _give(self) -> AccessToken:
        token = self.give()
        self.given.append(token)
        return token
