"""The only way out: the gateway's client, over grpclib."""

from agent.client.errors import GatewayError
from agent.client.gateway import GatewayClient

__all__ = ["GatewayClient", "GatewayError"]
