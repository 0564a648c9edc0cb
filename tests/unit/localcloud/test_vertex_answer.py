"""The model's answers: deterministic, limited, honest about what they used."""

import dataclasses

import jsonschema_rs
import msgspec
import pytest

from localcloud.vertex.answer import Model
from localcloud.vertex.chunks import Envelope, stream_documents, whole_document
from localcloud.vertex.config import Pace
from localcloud.vertex.directives import read_directives
from localcloud.vertex.prompt import Call, Function, Media, Prompt, Result, Settings, Text, Tooling, Turn
from localcloud.vertex.spelling import Spelling
from localcloud.vertex.tokens import count
from localcloud.vertex.usage import PrefixCache, measure, usage_metadata

MODEL = Model(1)


def prompt(text="hello", *, turns=None, functions=(), mode="AUTO", model="gemini-3.5-flash", system="", **settings):
    turns = turns or (Turn(role="user", parts=(Text(text=text),)),)
    tooling = Tooling(functions=tuple(functions), mode=mode)
    return Prompt(model=model, system=system, turns=turns, tooling=tooling, settings=Settings(**settings))


def answer(asked, model=MODEL):
    return model.answer(asked, read_directives(asked.last_request, Pace()))


def text_of(found):
    return "".join(found.text)


def test_the_same_prompt_gives_the_same_answer():
    assert answer(prompt()) == answer(prompt()) == answer(prompt(), Model(1))


@pytest.mark.parametrize(
    "other", [prompt("hallo"), prompt(model="gemini-3.8-flash"), prompt(system="be brief"), prompt(seed=4)]
)
def test_what_differs_gives_another_answer(other):
    assert answer(other) != answer(prompt())


def test_another_server_seed_gives_another_answer():
    assert answer(prompt(), Model(2)) != answer(prompt())


def test_at_temperature_zero_the_seed_does_not_matter():
    assert answer(prompt(seed=4, temperature=0.0)) == answer(prompt(seed=5, temperature=0.0))


@pytest.mark.parametrize("most", [1, 3, 10, 20])
def test_the_token_limit_cuts_and_says_so(most):
    whole, cut = answer(prompt()), answer(prompt(max_output_tokens=most))
    assert cut.finish == "MAX_TOKENS"
    assert cut.text == whole.text[:most]


def test_a_limit_that_is_not_reached_changes_nothing():
    assert answer(prompt(max_output_tokens=5000)) == answer(prompt())


def test_the_first_stop_sequence_ends_the_text():
    found = answer(prompt("@echo\none two three END four", stop_sequences=("four", " END")))
    assert text_of(found) == "one two three"
    assert found.finish == "STOP"


def test_an_echo_is_exact():
    words = 'Grüße 日本 \U0001f600 "quoted" \\ \t end'
    assert text_of(answer(prompt(f"@echo\n{words}"))) == words


def test_paced_prose_has_exactly_the_tokens_asked_for():
    found = answer(prompt("@pace deltas=64 size=5\nhi"))
    assert len(found.text) == 320 == count(text_of(found))


def test_finish_and_block_directives():
    refused = answer(prompt("@block reason=JAILBREAK\nhi"))
    assert (refused.blocked, refused.text) == ("JAILBREAK", ())
    ended = answer(prompt("@finish reason=SAFETY after=4\nhi"))
    assert (ended.finish, len(ended.text)) == ("SAFETY", 4)


BUY = Function(name="place_order", schema={"type": "object", "properties": {"symbol": {"type": "string"}}})


def test_calls_of_newer_models_are_signed_on_the_first():
    found = answer(prompt("buy 1 AAPL and buy 2 IBM", functions=[BUY]))
    assert [bool(call.signature) for call in found.calls] == [True, False]
    assert MODEL.seal.recognises(found.calls[0].signature)
    old = answer(prompt("buy 1 AAPL", functions=[BUY], model="gemini-2.5-pro"))
    assert not old.calls[0].signature


def test_the_mode_none_answers_in_text():
    found = answer(prompt("buy 1 AAPL", functions=[BUY], mode="NONE"))
    assert not found.calls
    assert found.text


def test_the_mode_any_always_calls():
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 4}}}
    found = answer(prompt("hello", functions=[Function(name="f", schema=schema)], mode="ANY"))
    assert found.calls[0].name == "f"
    jsonschema_rs.validator_for(schema).validate(found.calls[0].arguments)


def test_a_broken_call_line_ends_as_a_malformed_call():
    found = answer(prompt("call place_order {oops", functions=[BUY]))
    assert (found.finish, found.calls, found.text) == ("MALFORMED_FUNCTION_CALL", (), ())
    assert "place_order" in found.finish_message


def rounds(text, *steps):
    turns = [Turn(role="user", parts=(Text(text=text),))]
    for asked, given in steps:
        turns += [Turn(role="model", parts=asked), Turn(role="user", parts=given)]
    return tuple(turns)


def test_results_are_summed_up_with_their_values():
    call = Call(name="place_order", arguments={})
    given = Result(name="place_order", response={"id": "o-17", "legs": [{"qty": 5.0}], "filled": True})
    bad = Result(name="place_order", response={"error": "over the limit"})
    found = answer(prompt(turns=rounds("buy 1 AAPL and buy 2 IBM", ((call, call), (given, bad))), functions=[BUY]))
    assert text_of(found) == (
        "place_order answered: id = o-17, legs[0].qty = 5, filled = true. place_order was refused: over the limit."
    )


def test_the_next_step_follows_when_the_results_are_there():
    asked = "buy 1 AAPL, then buy 2 IBM"
    first = answer(prompt(asked, functions=[BUY]))
    done = ((Call(name="place_order", arguments={}),), (Result(name="place_order", response={"id": 1}),))
    second = answer(prompt(turns=rounds(asked, done), functions=[BUY]))
    third = answer(prompt(turns=rounds(asked, done, done), functions=[BUY]))
    assert [call.arguments for call in first.calls + second.calls] == [{"symbol": "AAPL"}, {"symbol": "IBM"}]
    assert text_of(third) == "place_order answered: id = 1."


def test_structured_answers_conform():
    schema = {"type": "object", "required": ["side"], "properties": {"side": {"enum": ["buy", "sell"]}}}
    found = answer(prompt(mime_type="application/json", schema=schema))
    jsonschema_rs.validator_for(schema).validate(msgspec.json.decode(text_of(found)))
    assert text_of(answer(prompt(mime_type="text/x.enum", schema={"enum": ["yes", "no"]}))) in ("yes", "no")
    assert isinstance(msgspec.json.decode(text_of(answer(prompt(mime_type="application/json")))), dict)


def test_thoughts_count_and_use_up_the_limit():
    assert not answer(prompt()).thoughts
    assert len(answer(prompt(include_thoughts=True)).thoughts) == 12
    thought = answer(prompt(thinking_level="HIGH", max_output_tokens=50))
    assert (len(thought.thoughts), len(thought.text), thought.finish) == (48, 2, "MAX_TOKENS")
    assert len(answer(prompt(thinking_level="HIGH", max_output_tokens=10)).thoughts) == 10
    assert len(answer(prompt(model="gemini-2.5-pro", thinking_budget=7)).thoughts) == 7
    assert len(answer(prompt(model="gemini-2.5-pro", thinking_budget=-1)).thoughts) == 24


def envelope(asked, found, *, numeric=False):
    spell = Spelling(numeric=numeric)
    usage = usage_metadata(measure(asked), found, "ON_DEMAND", spell)
    return Envelope(model=asked.model, response_id="r", create_time="t", usage=usage, spell=spell)


def documents(asked, size=5, *, numeric=False):
    found = answer(asked)
    made = stream_documents(found, envelope(asked, found, numeric=numeric), size)
    return found, [msgspec.json.decode(document) for document in made]


def parts(document):
    return document["candidates"][0].get("content", {}).get("parts", [])


def test_a_stream_has_as_many_documents_as_deltas():
    found, made = documents(prompt("@pace deltas=7 size=3\nhi"), size=3)
    assert len(made) == 7
    assert "".join(parts(document)[0]["text"] for document in made) == text_of(found)
    assert [document["candidates"][0].get("finishReason") for document in made] == [None] * 6 + ["STOP"]
    assert {document["responseId"] for document in made} == {"r"}


def test_only_the_last_document_tells_the_whole_usage():
    asked = prompt("@pace deltas=3 size=4\nhi")
    _, made = documents(asked, size=4)
    assert [document["usageMetadata"] for document in made[:-1]] == [{"trafficType": "ON_DEMAND"}] * 2
    usage = made[-1]["usageMetadata"]
    assert usage["candidatesTokenCount"] == 12
    assert usage["promptTokenCount"] == count("@pace deltas=3 size=4\nhi")
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + 12


def test_thoughts_are_shown_only_where_asked_for_but_always_counted():
    _, hidden = documents(prompt(thinking_level="LOW"))
    assert not any(part.get("thought") for document in hidden for part in parts(document))
    assert hidden[-1]["usageMetadata"]["thoughtsTokenCount"] == 12
    _, shown = documents(prompt(thinking_level="LOW", include_thoughts=True))
    thoughts = [part["text"] for document in shown for part in parts(document) if part.get("thought")]
    assert count("".join(thoughts)) == 12
    assert parts(shown[0])[0]["thought"]
    assert MODEL.seal.recognises(parts(shown[-1])[0]["thoughtSignature"])


def test_a_safety_ending_has_no_content_and_a_rating():
    _, made = documents(prompt("@finish reason=SAFETY after=5\nhi"))
    assert [len(parts(document)) for document in made] == [1, 0]
    last = made[-1]["candidates"][0]
    assert "content" not in last
    assert last["safetyRatings"][0]["blocked"]


def test_a_blocked_prompt_has_no_candidates():
    _, made = documents(prompt("@block reason=PROHIBITED_CONTENT\nhi"))
    assert len(made) == 1
    assert "candidates" not in made[0]
    assert made[0]["promptFeedback"]["blockReason"] == "PROHIBITED_CONTENT"
    assert "candidatesTokenCount" not in made[0]["usageMetadata"]


def test_one_document_for_each_call():
    _, made = documents(prompt("buy 1 AAPL and buy 2 IBM", functions=[BUY]))
    assert [parts(document)[0]["functionCall"]["args"] for document in made] == [{"symbol": "AAPL"}, {"symbol": "IBM"}]
    assert made[-1]["candidates"][0]["finishReason"] == "STOP"


def test_the_whole_document_joins_what_the_stream_cuts():
    asked = prompt(include_thoughts=True)
    found = answer(asked)
    whole = msgspec.json.decode(whole_document(found, envelope(asked, found)))
    assert [part.get("thought", False) for part in parts(whole)] == [True, False]
    assert parts(whole)[1]["text"] == text_of(found)


def test_enums_come_as_numbers_where_asked_for():
    _, made = documents(prompt("@finish reason=SAFETY\nhi"), numeric=True)
    assert made[-1]["candidates"][0]["finishReason"] == 3
    assert made[0]["usageMetadata"]["trafficType"] == 1
    _, strange = documents(prompt("@finish reason=NEW_REASON\nhi"), numeric=True)
    assert strange[-1]["candidates"][0]["finishReason"] == "NEW_REASON"


def test_media_count_flat_and_by_modality():
    turn = Turn(role="user", parts=(Text(text="what"), Media(mime_type="image/png"), Media(mime_type="video/mp4")))
    size = measure(prompt(turns=(turn,)))
    assert size.by_modality == {"TEXT": 1, "IMAGE": 258, "VIDEO": 258}
    assert size.tokens == 517


def test_declarations_and_results_count_as_prompt():
    assert measure(prompt(functions=[BUY])).tokens > measure(prompt()).tokens
    done = ((Call(name="f", arguments={"a": 1}),), (Result(name="f", response={"b": 2}),))
    assert measure(prompt(turns=rounds("hello", done))).tokens > measure(prompt()).tokens


def test_repeated_beginnings_are_cached():
    cache = PrefixCache(100)
    long = "word " * 200
    first = prompt(system=long)
    size = measure(first)
    assert cache.cached_tokens(first, size) == 0
    assert cache.cached_tokens(first, size) == size.tokens
    other = dataclasses.replace(first, turns=(Turn(role="user", parts=(Text(text="something else"),)),))
    assert cache.cached_tokens(other, measure(other)) == count(long)
    short = prompt()
    assert [cache.cached_tokens(short, measure(short)) for _ in range(2)] == [0, 0]
