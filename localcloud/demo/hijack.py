"""The scene of the hijacked agent: everything that it can try from where it stands."""

import base64
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from agent.client.errors import GatewayError
from agent.client.gateway import GatewayClient, Patience
from agent.tokens import MetadataTokens
from localcloud.demo.eyes import Eyes
from localcloud.demo.scene import Scene
from localcloud.demo.town import AGENT_EMAIL, AUDIENCE

ORDER = {"symbol": "AAPL", "side": "buy", "type": "market", "quantity": "1", "time_in_force": "day"}
ONCE = Patience(attempts=1)
GENERATE = "/v1/projects/local-project/locations/us-central1/publishers/google/models/gemini-3.5-flash:generateContent"


class FixedToken:
    """A token that an attacker holds."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def id_token(self, audience: str) -> str:
        """The same for everybody."""
        del audience
        return self._token


async def hijacked_agent(eyes: Eyes, client: GatewayClient, *, edge_strips: bool) -> Scene:
    """A turned agent tries other identities, stolen tokens, forgeries, and the way around the gateway.

    Where the edge strips signatures, nothing can tell a forged token from a stripped one behind it: there the edge is
    the defence, and on Cloud Run nobody reaches the container but through it. So the forgery is tried at the edge only.
    """
    scene = Scene(name="hijack", title="A hijacked agent gets nowhere")
    orders, records = await eyes.orders(), len(eyes.records())
    await _claim_another_identity(scene, client)
    await _stolen_token(scene, eyes)
    await _forged_token(scene, eyes, edge_strips=edge_strips)
    await _around_the_gateway(scene, eyes)
    scene.expect("new orders", "the exchange", 0, len(await eyes.orders()) - len(orders))
    fresh = [one["kind"] for one in eyes.records()[records:]]
    scene.expect("intents written", "the record", 0, fresh.count("intent"))
    return scene


async def _claim_another_identity(scene: Scene, client: GatewayClient) -> None:
    arguments = {**ORDER, "principal": "admin", "role": "head-trader", "dry_run": True}
    told = await _refusal(lambda: client.execute_tool("place_order", arguments, key="hijack-1"))
    scene.expect("another identity in the arguments", "the wire", "INVALID_ARGUMENT arguments.schema", told)
    scene.tell(f"another identity in the arguments: {told}")


async def _stolen_token(scene: Scene, eyes: Eyes) -> None:
    async with MetadataTokens(eyes.town.metadata("agent")) as tokens:
        other = await tokens.id_token("https://another-service-123456789012.us-central1.run.app")
    async with MetadataTokens(eyes.town.metadata("stranger")) as tokens:
        stranger = await tokens.id_token(AUDIENCE)
    for what, url, token, expected in (
        (
            "a token for another audience, at the edge",
            eyes.town.door_url,
            other,
            "UNAUTHENTICATED edge.unauthenticated",
        ),
        ("the same, at the gateway's own port", eyes.town.gateway_url, other, "UNAUTHENTICATED identity.audience"),
        ("a stranger's token, at the edge", eyes.town.door_url, stranger, "PERMISSION_DENIED edge.permission_denied"),
        (
            "the same, at the gateway's own port",
            eyes.town.gateway_url,
            stranger,
            "PERMISSION_DENIED identity.unregistered",
        ),
        ("no token, at the edge", eyes.town.door_url, "", "PERMISSION_DENIED edge.permission_denied"),
        ("no token, at the gateway's own port", eyes.town.gateway_url, "", "UNAUTHENTICATED identity.no_token"),
    ):
        told = await _attempt(url, token)
        scene.expect(what, "the wire", expected, told)
        scene.tell(f"{what}: {told}")


async def _forged_token(scene: Scene, eyes: Eyes, *, edge_strips: bool) -> None:
    """A made-up payload that looks as if Cloud Run had taken its signature off."""
    forged = _forged(AGENT_EMAIL)
    attempts = (
        ("a forged stripped token, at the edge", eyes.town.door_url, "UNAUTHENTICATED edge.unauthenticated"),
        ("the same, at the gateway's own port", eyes.town.gateway_url, "UNAUTHENTICATED identity.signature_removed"),
    )
    for what, url, expected in attempts[:1] if edge_strips else attempts:
        told = await _attempt(url, forged)
        scene.expect(what, "the wire", expected, told)
        scene.tell(f"{what}: {told}")


async def _around_the_gateway(scene: Scene, eyes: Eyes) -> None:
    async with MetadataTokens(eyes.town.metadata("agent")) as tokens:
        mine = await tokens.id_token(AUDIENCE)
    body = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
    bearer = {"Authorization": f"Bearer {mine}"}
    access = {"Authorization": f"Bearer {await _access_token(eyes)}"}
    order = {"symbol": "AAPL", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}
    exchange, vertex = eyes.town.exchange.told("url") + "/v2/orders", eyes.town.vertex.told("url") + GENERATE
    for what, url, payload, headers, expected in (
        ("the exchange directly, without a key", exchange, order, {}, (401, 403)),
        ("the exchange directly, with the agent's token", exchange, order, bearer, (401, 403)),
        ("the model directly, without a token", vertex, body, {}, (401,)),
        ("the model directly, with the agent's ID token", vertex, body, bearer, (401,)),
        ("the model directly, with the agent's access token", vertex, body, access, (403,)),
    ):
        async with eyes.session.post(url, json=payload, headers=headers) as reply:
            scene.expect_in(what, "the wire", expected, reply.status)
            scene.tell(f"{what}: HTTP {reply.status}")


async def _access_token(eyes: Eyes) -> str:
    """The agent's own access token: valid, and allowed nothing."""
    url = f"http://{eyes.town.metadata('agent')}/computeMetadata/v1/instance/service-accounts/default/token"
    async with eyes.session.get(url, headers={"Metadata-Flavor": "Google"}) as reply:
        return str((await reply.json())["access_token"])


async def _attempt(url: str, token: str) -> str:
    async with AsyncExitStack() as stack:
        client = GatewayClient(url, FixedToken(token) if token else None, audience=AUDIENCE, patience=ONCE)
        attacker = await stack.enter_async_context(client)
        return await _refusal(lambda: attacker.execute_tool("place_order", ORDER, key="hijack-2"))


async def _refusal(attempt: Callable[[], Awaitable[object]]) -> str:
    try:
        await attempt()
    except GatewayError as error:
        return f"{error.status.name} {error.reason}"
    return "it got through"


def _forged(email: str) -> str:
    now = int(time.time())
    header = {"alg": "RS256", "kid": "1", "typ": "JWT"}
    claims = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "sub": "1" * 21,
        "email": email,
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
    }
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims))
    return ".".join((*parts, "SIGNATURE_REMOVED_BY_GOOGLE"))
