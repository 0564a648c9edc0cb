from agent_parts import finish, text, tool_call

from agent.client.contract import ChatEvent, FinishReason, Part, Role, Usage
from agent.turn import Turn
from generated.agentic.gateway.v1 import ThoughtDelta


def thought(sequence, words, signature=b""):
    return ChatEvent(sequence=sequence, thought=ThoughtDelta(text=words, signature=signature))


def turn(*events):
    made = Turn()
    for event in events:
        made.add(event)
    return made


def test_neighbouring_words_are_joined():
    made = turn(text(1, "Hel"), text(2, ""), text(3, "lo"), finish(4))
    assert made.parts == [Part(text="Hello")]
    assert made.content.role is Role.MODEL


def test_a_signature_stays_with_the_words_that_it_came_with():
    made = turn(text(1, "a"), text(2, "b", b"s1"), text(3, "c"), text(4, "d"), text(5, "", b"s2"), finish(6))
    assert made.parts == [
        Part(text="a"),
        Part(text="b", signature=b"s1"),
        Part(text="cd"),
        Part(text="", signature=b"s2"),
    ]


def test_thoughts_and_words_are_different_parts():
    made = turn(thought(1, "hm"), thought(2, "m", b"s"), text(3, "Yes"), thought(4, "or"), text(5, "no"), finish(6))
    assert made.parts == [
        Part(thought="hm"),
        Part(thought="m", signature=b"s"),
        Part(text="Yes"),
        Part(thought="or"),
        Part(text="no"),
    ]


def test_calls_keep_their_place_their_id_and_their_signature():
    made = turn(
        text(1, "Let me see."),
        tool_call(2, "get_quote", '{"symbol": "AAPL"}', call_id="c1", signature=b"sig"),
        tool_call(3, "get_clock", call_id="c2"),
        finish(4, FinishReason.TOOL_CALLS),
    )
    assert [part.signature for part in made.parts] == [b"", b"sig", b""]
    assert [call.id for call in made.calls] == ["c1", "c2"]
    assert made.parts[1].tool_call.arguments_json == '{"symbol": "AAPL"}'
    assert made.waits_for_tools


def test_a_turn_that_was_cut_off_asks_for_nothing():
    for reason in (FinishReason.MAX_TOKENS, FinishReason.SAFETY, FinishReason.BUDGET_SPENT, FinishReason.OTHER):
        assert not turn(tool_call(1, "place_order"), finish(2, reason)).waits_for_tools
    assert not turn(tool_call(1, "place_order")).waits_for_tools
    assert not turn(text(1, "a"), finish(2, FinishReason.TOOL_CALLS)).waits_for_tools


def test_the_last_usage_counts():
    made = turn(
        ChatEvent(sequence=1, usage=Usage(output_tokens=1)),
        ChatEvent(sequence=2, usage=Usage(output_tokens=9)),
        finish(3),
    )
    assert made.usage == Usage(output_tokens=9)
