"""The address of a call: path and query of a request, taken apart and checked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from localcloud.vertex.errors import ApiError, bad_payload
from localcloud.vertex.framing import Framing
from localcloud.vertex.spelling import Spelling

PATH = re.compile(
    r"/(?P<version>v1|v1beta1)/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)"
    r"/publishers/(?P<publisher>[^/]+)/models/(?P<model>[^/:]+)"
    r":(?P<method>generateContent|streamGenerateContent|countTokens|rawPredict|streamRawPredict)"
)
# Google's system parameters; each may also carry a `$`.
PARAMETERS = frozenset({"alt", "key", "fields", "prettyPrint", "quotaUser", "userProject"})
ALTERNATIVES = {"json", "json;enum-encoding=int", "sse"}
RPCS = {
    "generateContent": "PredictionService.GenerateContent",
    "streamGenerateContent": "PredictionService.StreamGenerateContent",
    "countTokens": "LlmUtilityService.CountTokens",
    "rawPredict": "PredictionService.RawPredict",
    "streamRawPredict": "PredictionService.StreamRawPredict",
}
# Google's own models speak generateContent, others their makers' words.
METHODS = {
    "google": {"generateContent", "streamGenerateContent", "countTokens"},
    "anthropic": {"rawPredict", "streamRawPredict"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The path of a request, taken apart."""

    version: str
    project: str
    location: str
    publisher: str
    model: str
    method: str

    @property
    def resource(self) -> str:
        """The model's resource name."""
        where = f"projects/{self.project}/locations/{self.location}"
        return f"{where}/publishers/{self.publisher}/models/{self.model}"

    @property
    def rpc(self) -> str:
        """The full name of the method, as error details give it."""
        return f"google.cloud.aiplatform.{self.version}.{RPCS[self.method]}"

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream."""
        return self.method in ("streamGenerateContent", "streamRawPredict")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerForm:
    """How the answer is to be written."""

    framing: Framing
    spell: Spelling


def address_of(http_method: str, path: str) -> Address | None:
    """The address of a request, None for a path that the API does not have."""
    found = PATH.fullmatch(path) if http_method == "POST" else None
    return None if found is None else Address(**found.groupdict())


def answer_form(query: Mapping[str, str]) -> AnswerForm:
    """The form that the query asks for; 400 for a parameter that the API does not know."""
    for name in query:
        if name.removeprefix("$") not in PARAMETERS:
            told = f'Unknown name "{name}": Cannot bind query parameter.'
            raise bad_payload([("", f"Invalid JSON payload received. {told}")])
    alt = query.get("alt", query.get("$alt", "json"))
    if alt not in ALTERNATIVES:
        raise ApiError(400, f"Invalid value for the query parameter alt: {alt!r}.")
    framing = Framing.SSE if alt == "sse" else Framing.ARRAY
    return AnswerForm(framing=framing, spell=Spelling(numeric=alt.endswith("enum-encoding=int")))
