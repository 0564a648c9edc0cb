"""The only way out: the gateway's client, on grpclib's HTTP/2."""

from agent.client.errors import GatewayError
from agent.client.gateway import CallReport, GatewayClient, Patience

__all__ = ["CallReport", "GatewayClient", "GatewayError", "Patience"]
