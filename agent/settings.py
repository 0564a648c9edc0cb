"""What the agent's environment says, read once."""

from collections.abc import Mapping
from dataclasses import dataclass


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
    metadata_host: str
    host: str
    port: int
    turns_max: int


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the environment or raise `SettingsError`."""
    url = environment.get("GATEWAY_URL", "")
    if not url.startswith(("http://", "https://")):
        raise SettingsError("GATEWAY_URL: write the gateway's URL, such as https://gateway-service-123.run.app")
    model = environment.get("AGENT_MODEL", "")
    if not model:
        raise SettingsError("AGENT_MODEL: name a model of the gateway; ListModels tells which there are")
    return Settings(
        gateway_url=url,
        audience=environment.get("GATEWAY_AUDIENCE", url.rstrip("/")),
        model=model,
        system_instruction=environment.get("AGENT_INSTRUCTION", ""),
        metadata_host=environment.get("GCE_METADATA_HOST", "metadata.google.internal"),
        host=environment.get("AGENT_HOST", "0.0.0.0"),  # noqa: S104 - a container listens on all of its addresses
        port=_number(environment, "PORT", 8080),
        turns_max=_number(environment, "AGENT_TURNS_MAX", 8),
    )


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    if not (text.isascii() and text.isdigit()):
        raise SettingsError(f"{name}: write a number")
    return int(text)
