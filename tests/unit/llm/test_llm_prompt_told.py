"""What a leaver is charged: the prompt as its upstream told it, and a token for each byte of what came after."""

import json

import pytest
from made_streams import MODEL, ask

from gateway.call.tally import Tally
from gateway.llm import claude_reply, compatible_reply, vertex_reply
from gateway.terms.conversation import Asking, Usage

ASKED = ask("hello", max_output_tokens=1_000)
BOUND = ASKED.input_tokens_bound
GEMINI = [{"candidates": [{"content": {"parts": [{"text": "hi"}]}}], "usageMetadata": {"promptTokenCount": 7}}]
CLAUDE = [
    {"type": "message_start", "message": {"model": "c", "usage": {"input_tokens": 7, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
]
VLLM = [
    {"choices": [{"index": 0, "delta": {"role": "assistant"}}], "usage": {"prompt_tokens": 7, "completion_tokens": 0}},
    {"choices": [{"index": 0, "delta": {"content": "hi"}}]},
]


def reader(wire):
    if wire is compatible_reply:
        return wire.Answer("c", ASKED)
    return wire.Answer("c", ASKED.max_output_tokens)


def left_after(wire, events):
    tally, answer = Tally(ask=ASKED, model=MODEL), reader(wire)
    tally.take(Asking(target="fast"))
    for event in events:
        for chunk in answer.chunks(json.dumps(event).encode()):
            tally.take(chunk)
    return tally


@pytest.mark.parametrize("wire, events", [(vertex_reply, GEMINI), (claude_reply, CLAUDE), (compatible_reply, VLLM)])
def test_who_leaves_pays_the_prompt_that_was_told_and_the_bytes_that_came(wire, events):
    tally = left_after(wire, events)
    assert tally.usage == Usage(input_tokens=7, output_tokens=2, estimated=True)
    assert json.loads(tally.left(late=False).account)["input_tokens"] == 7


@pytest.mark.parametrize("wire, events", [(vertex_reply, GEMINI), (claude_reply, CLAUDE), (compatible_reply, VLLM)])
def test_where_nothing_was_told_the_bound_is_paid(wire, events):
    untold = json.loads(json.dumps(events).replace("prompt_tokens", "x").replace("input_tokens", "x"))
    for event in untold:
        event.pop("usageMetadata", None)
    assert left_after(wire, untold).usage == Usage(input_tokens=BOUND, output_tokens=2, estimated=True)
