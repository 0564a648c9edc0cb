"""A Vertex AI double: a small deterministic model server that speaks Vertex REST over real sockets.

It is judged by the vendor's own clients, google-genai and google-cloud-aiplatform. What it can be told to do from
inside a prompt is described in `directives` and `grammar`; what can be broken from outside, in `faults`.
"""

from localcloud.vertex.bearer import Principal, TokenCheck
from localcloud.vertex.config import Pace, VertexConfig
from localcloud.vertex.faults import Fault
from localcloud.vertex.server import VertexDouble

__all__ = ["Fault", "Pace", "Principal", "TokenCheck", "VertexConfig", "VertexDouble"]
