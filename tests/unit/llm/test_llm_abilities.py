"""What each upstream is never asked for: refused by name before anything is spent, because it could only be dropped."""

from dataclasses import replace

import pytest
from made_streams import CLAUDE, LLAMA, MODEL, conversation, model, user

from gateway.llm.claude import Claude
from gateway.llm.compatible import ABILITIES as COMPATIBLE
from gateway.llm.compatible_request import Dialect
from gateway.llm.vertex import ABILITIES as GEMINI
from gateway.terms.conversation import Choosing, Function, Generation, Text, Thinking, Thought
from gateway.terms.inputs import CachedContent, FileData, Guard, Harm, InlineData, Inputs
from gateway.terms.models import ThinkingForm
from gateway.terms.verdict import Kind

INPUTS = Inputs(
    media={"image/png": 1_000, "image/heic": 1_000, "application/pdf": 500_000, "text/plain": 10},
    file_prefixes=("gs://acme/", "https://files.acme.com/in/"),
    cached={"handbook": CachedContent(upstream_id="1", tokens_max=9)},
    guards={Harm.HARASSMENT: Guard.BLOCK_ONLY_HIGH},
)
PNG = InlineData(mime_type="image/png", data=b"x")
FUNCTION = Function(name="f.g", description="", parameters_json_schema="{}")


class Wires:
    """The checks of all wires, by name."""

    gemini = staticmethod(lambda asked, model=MODEL: GEMINI.refusal(replace(model, inputs=INPUTS), asked))
    claude = staticmethod(
        lambda asked, model=CLAUDE: Claude.check(
            None, replace(model, inputs=INPUTS), asked
        )  # it needs nothing of itself
    )

    @staticmethod
    def of(dialect):
        return lambda asked, model=LLAMA: COMPATIBLE[dialect].refusal(replace(model, inputs=INPUTS), asked)


vllm, openai, ollama, garden = (
    Wires.of(dialect) for dialect in (Dialect.VLLM, Dialect.OPENAI, Dialect.OLLAMA, Dialect.GARDEN)
)
gemini, claude = Wires.gemini, Wires.claude


def generating(**settings):
    return conversation("hi", generation=Generation(**settings))


def with_file(kind, uri):
    return conversation(user(Text(text="?"), FileData(mime_type=kind, uri=uri)))


def inline(kind):
    return conversation(user(Text(text="?"), InlineData(mime_type=kind, data=b"x")))


@pytest.mark.parametrize(
    "check, asked",
    [
        (gemini, generating(temperature=2, top_p=1, top_k=1, seed=1, presence_penalty=1, frequency_penalty=1)),
        (gemini, generating(stop_sequences=("a",) * 5)),
        (gemini, conversation("hi", functions=(FUNCTION,), choosing=Choosing.ANY)),
        (gemini, inline("image/heic")),
        (gemini, with_file("application/pdf", "gs://acme/a/b.pdf")),
        (gemini, with_file("image/png", "https://files.acme.com/in/b.png")),
        (gemini, conversation("hi", cached_content="handbook")),
        (gemini, conversation("hi", guards={Harm.HARASSMENT: Guard.BLOCK_LOW_AND_ABOVE, Harm.HATE_SPEECH: Guard.OFF})),
        (claude, generating(temperature=1, thinking=Thinking.HIGH)),
        (claude, generating(temperature=0, top_k=3, thinking=Thinking.MINIMAL)),
        (claude, inline("application/pdf")),
        (claude, inline("text/plain")),
        (vllm, generating(top_k=3)),
        (vllm, with_file("image/png", "https://files.acme.com/in/b.png")),
        (garden, with_file("image/png", "gs://acme/b.png")),
        (ollama, conversation("hi", functions=(FUNCTION,), choosing=Choosing.NONE)),
    ],
)
def test_what_is_honoured(check, asked):
    assert check(asked) is None


@pytest.mark.parametrize(
    "check, asked, told",
    [
        (gemini, inline("image/gif"), "does not take a file of type image/gif; it reads: application/pdf, image/heic"),
        (gemini, with_file("image/png", "gs://acme-other/b.png"), "file_data.uri"),
        (gemini, with_file("image/png", "https://files.acme.com/b.png"), "file_data.uri"),
        (gemini, with_file("text/plain", "gs://acme/a.txt"), "nothing bounds how long"),
        (gemini, conversation("hi", guards={Harm.HARASSMENT: Guard.BLOCK_NONE}), "BLOCK_ONLY_HIGH or stricter"),
        (gemini, conversation("hi", cached_content="other"), "has: handbook"),
        (gemini, conversation("hi", cached_content="handbook", system="x"), "send none beside it"),
        (gemini, conversation("hi", cached_content="handbook", functions=(FUNCTION,)), "send none beside it"),
        (claude, generating(seed=1), "settings.seed"),
        (claude, generating(presence_penalty=1), "settings.presence_penalty"),
        (claude, generating(temperature=1.5), "at most 1"),
        (claude, generating(temperature=0.5, thinking=Thinking.LOW), "while it thinks"),
        (claude, generating(top_k=3, thinking=Thinking.LOW), "while it thinks"),
        (claude, conversation("hi", functions=(FUNCTION,)), "functions[0].name"),
        (claude, conversation("hi", guards={Harm.HARASSMENT: Guard.BLOCK_ONLY_HIGH}), "safety_settings"),
        (claude, conversation("hi", cached_content="handbook"), "sonnet has: none"),
        (claude, inline("image/heic"), "image/heic"),
        (claude, with_file("image/png", "https://files.acme.com/in/b.png"), "none, send them inline"),
        (openai, generating(top_k=3), "settings.top_k"),
        (openai, generating(stop_sequences=("a",) * 5), "at most 4"),
        (openai, inline("application/pdf"), "application/pdf"),
        (vllm, with_file("image/png", "gs://acme/b.png"), "begin with: https://files.acme.com/in/"),
        (ollama, with_file("image/png", "https://files.acme.com/in/b.png"), "send them inline"),
        (ollama, conversation("hi", functions=(FUNCTION,), choosing=Choosing.ANY), "function_calling.mode ANY"),
    ],
)
def test_what_is_refused(check, asked, told):
    refusal = check(asked)
    assert told in refusal.sentence
    assert refusal.kind in (Kind.UNSUPPORTED, Kind.MALFORMED, Kind.FORBIDDEN)


@pytest.mark.parametrize("check, model", [(gemini, MODEL), (claude, CLAUDE), (vllm, LLAMA)])
def test_a_model_that_takes_no_level_of_thinking(check, model):
    none = replace(model, thinking=ThinkingForm.NONE)
    assert "settings.thinking_level" in check(generating(thinking=Thinking.LOW), none).sentence
    assert check(generating(include_thoughts=True), none) is None


def test_claude_cannot_think_and_be_made_to_call():
    plain = Function(name="f", description="", parameters_json_schema="{}")
    asked = conversation(
        "hi", functions=(plain,), choosing=Choosing.ANY, generation=Generation(thinking=Thinking.MEDIUM)
    )
    assert "made to call" in claude(asked).sentence
    # Who wants to hear thoughts makes it think, where it then chooses how much.
    heard = replace(asked, generation=Generation(include_thoughts=True))
    assert "made to call" in claude(heard).sentence
    assert claude(heard, replace(CLAUDE, thinking=ThinkingForm.BUDGET)) is None
    assert "no temperature" in claude(generating(include_thoughts=True, temperature=0.5)).sentence


@pytest.mark.parametrize("begins", [b"claude:", b"claude-redacted:"])
def test_a_signature_that_claude_cannot_have_written(begins):
    said = conversation(
        user(Text(text="?")), model(Thought(text="hm", signature=begins + b"\xff")), user(Text(text="!"))
    )
    assert "contents[1].parts[0].signature" in claude(said).sentence
    assert gemini(said) is None
    assert claude(conversation(user(Text(text="?")), model(Thought(text="hm", signature=begins + b"sig=")))) is None


def test_a_budget_of_thoughts_needs_room_beside_it():
    older = replace(CLAUDE, thinking=ThinkingForm.BUDGET)
    assert "more than 1024" in claude(generating(thinking=Thinking.LOW, max_output_tokens=1_024), older).sentence
    assert claude(generating(thinking=Thinking.LOW, max_output_tokens=1_025), older) is None
