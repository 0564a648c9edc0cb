"""Which of Vertex AI's capacity a request may use, as the headers that say so.

From Google's pages on provisioned throughput and on priority and flex pay-as-you-go (Cloud Run and Vertex study, 3.3).
"""

from enum import StrEnum


class Throughput(StrEnum):
    """What was bought ahead, and what everybody shares."""

    ANY = "any"
    """What was bought first, then what is shared: Google's own order."""
    DEDICATED = "dedicated"
    """Only what was bought: 429 when it is used up."""
    SHARED = "shared"
    """Only pay-as-you-go."""


class Tier(StrEnum):
    """Which pay-as-you-go."""

    STANDARD = "standard"
    PRIORITY = "priority"
    FLEX = "flex"


def throughput_headers(throughput: Throughput, tier: Tier) -> dict[str, str]:
    """The headers of every request of a target; none where Google's own order is wanted."""
    headers: dict[str, str] = {}
    if throughput is not Throughput.ANY:
        headers["X-Vertex-AI-LLM-Request-Type"] = throughput.value
    if tier is not Tier.STANDARD:
        headers["X-Vertex-AI-LLM-Shared-Request-Type"] = tier.value
    return headers
