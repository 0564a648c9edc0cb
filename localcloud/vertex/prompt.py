"""What a request says once it is read and checked: turns, functions, settings, as frozen values."""

from dataclasses import dataclass, field

from localcloud.vertex.jsontypes import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text part; `thought` marks what a model thought aloud."""

    text: str
    thought: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A part that is not text: only its MIME type matters here."""

    mime_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function call. `signature` is base64, empty where there is none."""

    name: str
    arguments: JsonObject
    signature: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a called function gave back."""

    name: str
    response: JsonObject


Part = Text | Media | Call | Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One entry of `contents`; the role is `user` or `model`."""

    role: str
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The text of the turn, parts on lines of their own, thoughts left out."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text) and not part.thought)

    @property
    def calls(self) -> tuple[Call, ...]:
        """The function calls of the turn."""
        return tuple(part for part in self.parts if isinstance(part, Call))

    @property
    def results(self) -> tuple[Result, ...]:
        """The function responses of the turn."""
        return tuple(part for part in self.parts if isinstance(part, Result))


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A declared function; `schema` describes its arguments, in JSON Schema or in the OpenAPI subset."""

    name: str
    description: str = ""
    schema: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to generate. None leaves the choice to the model; `schema` constrains the answer's JSON."""

    temperature: float | None = None
    max_output_tokens: int | None = None
    stop_sequences: tuple[str, ...] = ()
    seed: int | None = None
    mime_type: str = "text/plain"
    schema: JsonObject | None = None
    include_thoughts: bool = False
    thinking_level: str = ""
    thinking_budget: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tooling:
    """The declared functions and how the model chooses among them; `allowed` empty means all."""

    functions: tuple[Function, ...] = ()
    mode: str = "AUTO"
    allowed: tuple[str, ...] = ()

    @property
    def callable_functions(self) -> tuple[Function, ...]:
        """The functions that the model may call now."""
        if self.mode == "NONE":
            return ()
        return tuple(function for function in self.functions if not self.allowed or function.name in self.allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A whole request, checked."""

    model: str
    system: str
    turns: tuple[Turn, ...]
    tooling: Tooling
    settings: Settings
    cached_content: str = ""

    @property
    def last_request(self) -> str:
        """The text of the most recent user turn that has any: what the user asked for."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user" and turn.text), "")

    @property
    def steps_done(self) -> int:
        """How many rounds of function calls were answered since the user's last text."""
        done = 0
        for turn in reversed(self.turns):
            if turn.role == "user" and turn.text:
                break
            done += bool(turn.results)
        return done
