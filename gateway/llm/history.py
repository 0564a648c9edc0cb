"""How the results in a conversation belong to its calls: by id, or by place where the caller gave no ids."""

from collections.abc import Iterator
from dataclasses import replace

from gateway.terms.conversation import Conversation, FunctionCall, FunctionResult, Part, Speaker, Turn
from gateway.terms.verdict import Violation

_Key = str | int
"""A call's id, or its place among the calls of its turn."""


def history_faults(conversation: Conversation) -> tuple[Violation, ...]:
    """What is wrong with the results: each call of a turn needs exactly one, in the next turn, with its name.

    A result under another call's id would tell the model something that did not happen.
    """
    faults: list[Violation] = []
    before: Turn | None = None
    for place, turn in enumerate(conversation.turns):
        asked = _calls(before) if before is not None else {}
        field = f"contents[{place}].parts"
        given = _results(turn)
        if len({id_ for id_, _ in given}) != len(given):
            faults.append(Violation(field=field, description="two results for one call"))
        elif {id_ for id_, _ in given} != set(asked):
            told = "send one tool_result for each tool_call of the turn before, with its id, and no other"
            faults.append(Violation(field=field, description=told))
        elif any(asked[id_].name != result.name for id_, result in given):
            faults.append(Violation(field=field, description="a tool_result has another name than its tool_call"))
        before = turn
    return tuple(faults)


def in_order_of_calls(turns: tuple[Turn, ...]) -> list[Turn]:
    """The turns with the results of each in the order of the calls before it; other parts keep their places."""
    ordered: list[Turn] = []
    for turn in turns:
        asked = list(_calls(ordered[-1])) if ordered else []
        ordered.append(_ordered(turn, {id_: place for place, id_ in enumerate(asked)}))
    return ordered


def open_turn(turns: tuple[Turn, ...]) -> int | None:
    """The place of the model's turn that began what results have continued since; None where nothing is open."""
    first = len(turns)
    while first >= 2 and _results(turns[first - 1]) and turns[first - 2].speaker is Speaker.MODEL:
        first -= 2
    return first if first < len(turns) else None


def _ordered(turn: Turn, places: dict[_Key, int]) -> Turn:
    given = _results(turn)
    if len(given) < 2 or not all(id_ in places for id_, _ in given):
        return turn
    results = iter([result for _, result in sorted(given, key=lambda item: places[item[0]])])
    parts: list[Part] = [next(results) if isinstance(part, FunctionResult) else part for part in turn.parts]
    return Turn(speaker=turn.speaker, parts=tuple(parts))


def _calls(turn: Turn) -> dict[_Key, FunctionCall]:
    """The calls of a turn by id, in their order; one without an id of its own is known by its place."""
    calls: dict[_Key, FunctionCall] = {}
    for place, call in enumerate(part for part in turn.parts if isinstance(part, FunctionCall)):
        calls[call.id if call.id and call.id not in calls else place] = call
    return calls


def _results(turn: Turn) -> list[tuple[_Key, FunctionResult]]:
    results = (part for part in turn.parts if isinstance(part, FunctionResult))
    return [(result.call_id or place, result) for place, result in enumerate(results)]


def identified(turns: tuple[Turn, ...]) -> list[Turn]:
    """The turns as `in_order_of_calls`, with an id of ours on every call and its result, for wires that need a form.

    The same history gets the same ids again, so that an upstream's cache finds it.
    """
    given: list[Turn] = []
    before: dict[_Key, str] = {}
    for number, turn in enumerate(in_order_of_calls(turns)):
        names = {key: f"call_{number}_{place}" for place, key in enumerate(_calls(turn))}
        calls, results = iter(names.values()), iter([before[key] for key, _ in _results(turn)])
        given.append(replace(turn, parts=tuple(_identified(part, calls, results) for part in turn.parts)))
        before = names
    return given


def _identified(part: Part, calls: Iterator[str], results: Iterator[str]) -> Part:
    if isinstance(part, FunctionCall):
        return replace(part, id=next(calls))
    if isinstance(part, FunctionResult):
        return replace(part, call_id=next(results))
    return part
