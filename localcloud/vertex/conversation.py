"""The rules of `contents`: roles, parts, the order of turns, and the thought signatures that must come back."""

from localcloud.vertex.errors import invalid
from localcloud.vertex.jsontypes import JsonObject, as_list, as_object, as_text
from localcloud.vertex.prompt import Call, Media, Part, Result, Text, Turn
from localcloud.vertex.shapes import PART_DATA
from localcloud.vertex.signature import Seal

PREFIX = "Unable to submit request because "
ORDER = "Please ensure that function call turn comes immediately after a user turn or after a function response turn."
PARITY = (
    "Please ensure that the number of function response parts is equal to the number of function call parts "
    "of the function call turn."
)


def read_turns(members: JsonObject) -> tuple[Turn, ...]:
    """The turns of a request, each checked alone; 400 where one is not allowed."""
    contents = [as_object(content) for content in as_list(members.get("contents"))]
    if not contents:
        raise invalid(f"{PREFIX}at least one contents field is required.")
    return tuple(_turn(content, alone=len(contents) == 1) for content in contents)


def read_system(members: JsonObject) -> str:
    """The system instruction's text; 400 where it holds anything but text."""
    content = as_object(members.get("systemInstruction"))
    parts = [_part(as_object(part)) for part in as_list(content.get("parts"))]
    texts = [part.text for part in parts if isinstance(part, Text)]
    if len(texts) != len(parts):
        raise invalid(f"{PREFIX}the systemInstruction may hold text parts only.")
    return "\n".join(texts)


def _turn(content: JsonObject, *, alone: bool) -> Turn:
    role = as_text(content.get("role")) or ("user" if alone else "")
    if role not in ("user", "model"):
        raise invalid("Please use a valid role: user, model.")
    parts = tuple(_part(as_object(part)) for part in as_list(content.get("parts")))
    if not parts:
        raise invalid(f"{PREFIX}it must include at least one parts field, which describes the prompt input.")
    turn = Turn(role=role, parts=parts)
    if role == "user" and turn.calls:
        raise invalid("Function calls belong in a turn with the role model.")
    if role == "model" and turn.results:
        raise invalid("Function responses belong in a turn with the role user.")
    return turn


def _part(part: JsonObject) -> Part:
    signature = as_text(part.get("thoughtSignature"))
    if "text" in part:
        return Text(text=as_text(part["text"]), thought=part.get("thought") is True)
    if "functionCall" in part:
        call = as_object(part["functionCall"])
        _refuse(call, ("partialArgs", "willContinue"), "functionCall")
        return Call(name=_name(call, "functionCall"), arguments=as_object(call.get("args")), signature=signature)
    if "functionResponse" in part:
        result = as_object(part["functionResponse"])
        _refuse(result, ("parts",), "functionResponse")
        return Result(name=_name(result, "functionResponse"), response=as_object(result.get("response")))
    for name in ("inlineData", "fileData"):
        if name in part:
            mime_type = as_text(as_object(part[name]).get("mimeType"))
            if not mime_type:
                raise invalid(f"{PREFIX}the mimeType of {name} is empty.")
            return Media(mime_type=mime_type)
    for name in PART_DATA:
        _refuse(part, (name,), "a part")
    raise invalid(f"{PREFIX}a part has no data: required oneof field 'data' must have one initialized field.")


def _refuse(members: JsonObject, names: tuple[str, ...], where: str) -> None:
    for name in names:
        if name in members:
            raise invalid(f"{PREFIX}this model server does not support {name} in {where}.")


def _name(members: JsonObject, where: str) -> str:
    name = as_text(members.get("name"))
    if not name:
        raise invalid(f"{PREFIX}the name of a {where} is empty.")
    return name


def check_order(turns: tuple[Turn, ...]) -> None:
    """400 unless every function call turn is answered by as many responses, and the user has the last word."""
    for before, turn in zip((None, *turns[:-1]), turns, strict=True):
        asked = len(before.calls) if before is not None else 0
        if len(turn.results) != asked:
            raise invalid(PARITY)
        if turn.calls and (before is None or before.role != "user"):
            raise invalid(ORDER)
    if turns[-1].role != "user":
        raise invalid("Please ensure that multiturn requests end with a user role or a function response.")


def check_signatures(turns: tuple[Turn, ...], seal: Seal) -> None:
    """400 where the first call of a step of the current turn lacks its signature, or where any signature is not ours.

    The current turn is what follows the user's last text; of parallel calls only the first one carries a signature.
    Source: Google's "Thought signatures" page for the Gemini 3 family.
    """
    current = _start_of_current(turns)
    for position, turn in enumerate(turns):
        for order, call in enumerate(turn.calls):
            if call.signature and not seal.recognises(call.signature):
                raise invalid(f"The thought signature of function call `{call.name}` is not valid.")
            if not call.signature and order == 0 and position >= current:
                place = f"function call `{call.name}` in the {position + 1}. content block"
                raise invalid(f"{PREFIX}{place} is missing a `thought_signature`.")


def _start_of_current(turns: tuple[Turn, ...]) -> int:
    return max((place for place, turn in enumerate(turns) if turn.role == "user" and turn.text), default=0)
