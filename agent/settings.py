"""What the agent's environment says, read once."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.client.address import address
from agent.tokens import HOST


class SettingsError(Exception):
    """The environment cannot be used; says which variable and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the gateway is, and what this agent does."""

    gateway_url: str
    """`GATEWAY_URL`: where calls go."""
    audience: str
    """`GATEWAY_AUDIENCE`: the gateway's URL as Cloud Run knows it; the same as `GATEWAY_URL` by default."""
    model: str
    """`AGENT_MODEL`: a model of the gateway."""
    system_instruction: str
    """`AGENT_INSTRUCTION`: what the model is told about its task; nothing by default."""
    metadata_host: str
    """`GCE_METADATA_HOST`: HOST or HOST:PORT of the metadata server."""
    host: str
    """`AGENT_HOST`: the address to listen on; all of them by default."""
    port: int
    """`PORT`: the port to listen on; 0 is any free one."""
    turns_max: int
    """`AGENT_TURNS_MAX`: answers of the model in one run."""
    in_stream: bool
    """`AGENT_TOOLS`: `gateway`, if that runs the tools inside of one stream; `agent`, if this sends each call."""


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the environment or raise `SettingsError`."""
    url = environment.get("GATEWAY_URL", "")
    if not url:
        raise SettingsError("GATEWAY_URL: write the gateway's URL, such as https://gateway-service-123.run.app")
    try:
        address(url)
    except ValueError as error:
        raise SettingsError(f"GATEWAY_URL: {error}") from None
    model = environment.get("AGENT_MODEL", "")
    if not model:
        raise SettingsError("AGENT_MODEL: name a model of the gateway; ListModels tells which there are")
    metadata_host = environment.get("GCE_METADATA_HOST") or "metadata.google.internal"
    if not HOST.fullmatch(metadata_host):
        raise SettingsError("GCE_METADATA_HOST: write HOST or HOST:PORT, without http://")
    tools = environment.get("AGENT_TOOLS") or "agent"
    if tools not in ("agent", "gateway"):
        raise SettingsError("AGENT_TOOLS: write gateway, if it runs the tools inside of its streams, or agent")
    in_stream = tools == "gateway"
    return Settings(
        gateway_url=url,
        audience=environment.get("GATEWAY_AUDIENCE") or url.rstrip("/"),
        model=model,
        system_instruction=environment.get("AGENT_INSTRUCTION", ""),
        metadata_host=metadata_host,
        host=environment.get("AGENT_HOST") or "0.0.0.0",  # noqa: S104 - a container listens on all of its addresses
        port=_number(environment, "PORT", 8080, least=0, most=65_535),
        turns_max=_number(environment, "AGENT_TURNS_MAX", 8, least=1, most=32 if in_stream else 1_000),
        in_stream=in_stream,
    )


def _number(environment: Mapping[str, str], name: str, default: int, *, least: int, most: int) -> int:
    text = environment.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
        raise SettingsError(f"{name}: write a number from {least} to {most}")
    return int(text)
