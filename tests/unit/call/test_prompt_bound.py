"""The bound of a prompt's tokens is above everything that a provider can count, or a call costs more than it held."""

import pytest

from gateway.terms.conversation import (
    ChoiceConstraint,
    Conversation,
    Function,
    FunctionCall,
    FunctionResult,
    JsonSchemaConstraint,
    RegexConstraint,
    Speaker,
    Text,
    Thought,
    Turn,
    prompt_tokens_bound,
)


def conversation(*parts, **more):
    turns = (Turn(speaker=Speaker.USER, parts=parts),) if parts else ()
    return Conversation(**({"system_instruction": "", "turns": turns} | more))


EMPTY = prompt_tokens_bound(conversation())


@pytest.mark.parametrize(
    "asked, least",
    [
        (conversation(system_instruction="é" * 50), 100),
        (conversation(Text(text="x" * 100)), 100),
        (conversation(Text(text="", signature=b"s" * 100)), 100),
        (conversation(Thought(text="x" * 50, signature=b"s" * 50)), 100),
        (conversation(FunctionCall(id="1", name="n" * 20, arguments_json="a" * 30, signature=b"s" * 50)), 100),
        (conversation(FunctionResult(call_id="1", name="n" * 20, result_json="a" * 80)), 100),
        (
            conversation(functions=(Function(name="n" * 20, description="d" * 30, parameters_json_schema="s" * 50),)),
            100,
        ),
        (conversation(constraint=JsonSchemaConstraint(schema_json="s" * 100)), 100),
        (conversation(constraint=RegexConstraint(pattern="s" * 100)), 100),
        (conversation(constraint=ChoiceConstraint(texts=("s" * 50, "t" * 50))), 100),
    ],
)
def test_everything_that_goes_into_the_prompt_counts(asked, least):
    assert prompt_tokens_bound(asked) >= EMPTY + least
