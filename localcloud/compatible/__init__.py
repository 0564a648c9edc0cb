"""An OpenAI-compatible model server: the same deterministic model as the Vertex AI double's, behind chat/completions.

It is judged by the vendor's own client, openai. Directives and faults are those of `localcloud.vertex`.
"""

from localcloud.compatible.server import CompatibleConfig, CompatibleDouble

__all__ = ["CompatibleConfig", "CompatibleDouble"]
