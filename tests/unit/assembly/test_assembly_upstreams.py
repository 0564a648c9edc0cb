"""Configured upstreams as they are built: each model reaches its own, with its own credentials and nobody else's."""

import asyncio
from contextlib import aclosing

import aiohttp
import pytest
from made_settings import ROOT, VARIABLES

from gateway.assembly.routes import catalogue
from gateway.assembly.upstreams import Place, upstreams
from gateway.settings.reading import read_settings
from gateway.terms.asks import ChatAsk
from gateway.terms.clock import SystemClock
from gateway.terms.conversation import Conversation, Ending, Speaker, Text, Turn
from gateway.terms.ids import ModelName, RunId
from gateway.terms.inputs import Guard, Harm
from gateway.terms.models import Model, Price, ThinkingForm
from localcloud.compatible import CompatibleConfig, CompatibleDouble
from localcloud.vertex import Principal, VertexConfig, VertexDouble
from localcloud.vertex.bearer import CLOUD_PLATFORM

EXAMPLE = (ROOT / "docs" / "gateway.example.toml").read_text()


class Token:
    """Google's token of the gateway."""

    async def token(self):
        return "google-token"

    def refused(self, token):
        raise AssertionError(token)


def settings(folder, text, **more):
    path = folder / "gateway.toml"
    path.write_text(text)
    return read_settings(path, VARIABLES | more)


def ask(model):
    said = Conversation(system_instruction="", turns=(Turn(speaker=Speaker.USER, parts=(Text(text="hi"),)),))
    return ChatAsk(
        model=ModelName(model),
        conversation=said,
        max_output_tokens=99,
        input_tokens_bound=99,
        run=RunId(""),
        digest=b"",
    )


async def check(token):
    return Principal(email="sa@p", scope=CLOUD_PLATFORM, expires=4e9) if token == "google-token" else None


@pytest.fixture
async def world(tmp_path):
    """Three upstreams that each take their own credentials alone, and the settings that know them."""
    async with (
        VertexDouble(VertexConfig(token_check=check)) as google,
        CompatibleDouble(CompatibleConfig(keys=frozenset({"sk-llama"}))) as llama,
        CompatibleDouble(CompatibleConfig()) as open_,
        aiohttp.ClientSession() as session,
    ):
        tables = f"""
[[upstreams]]
name = "llama"
kind = "openai"
url = "{llama.url}"
dialect = "vllm"
api_key = "env:LLAMA_KEY"
[[upstreams]]
name = "open"
kind = "openai"
url = "{open_.url}"
dialect = "ollama"
[[upstreams]]
name = "europe"
kind = "claude"
location = "europe-west1"
"""
        text = EXAMPLE.replace("# endpoint =", f'endpoint = "{google.url}"\n# endpoint =') + tables
        read = settings(tmp_path, text, LLAMA_KEY="sk-llama")
        yield upstreams(read, session, Token()), {"google": google, "llama": llama, "open": open_}


@pytest.mark.parametrize(
    "upstream, server, upstream_id",
    [
        ("vertex", "google", "gemini-3.5-flash"),
        ("claude", "google", "claude-sonnet-5"),
        ("europe", "google", "claude-sonnet-5"),
        ("llama", "llama", "llama-4-maverick"),
        ("open", "open", "gpt-oss-120b"),
    ],
)
async def test_every_upstream_answers_with_its_own_credentials(world, made_model, upstream, server, upstream_id):
    upstream_at, servers = world
    served = upstream_at(Place(upstream=upstream))
    assert served.upstream.name == upstream
    model = made_model(upstream_id)
    async with asyncio.timeout(5), aclosing(served.upstream.stream(model, ask("m"), "c")) as stream:
        chunks = [chunk async for chunk in stream]
    assert isinstance(chunks[-1], Ending)
    entry = servers[server].journal.entries[-1]
    assert entry.status == 200
    assert entry.authorization is (upstream != "open")
    assert ("europe-west1" in entry.path) is (upstream == "europe")


WAITED = """
[[upstreams]]
name = "europe"
kind = "claude"
total_s = 20
[[upstreams]]
name = "garden"
kind = "openai"
dialect = "garden"
idle_s = 7
[[upstreams]]
name = "llama"
kind = "openai"
url = "https://llama.example.com/v1"
total_s = 90
[[upstreams]]
name = "slow"
kind = "openai"
url = "https://slow.example.com/v1"
idle_s = 900
"""


async def test_every_upstream_is_waited_for_as_long_as_its_operator_says(tmp_path):
    """A part of Vertex AI as in [vertex], where it does not say otherwise; silence is never longer than the whole."""
    text = EXAMPLE.replace("idle_s = 120\ntotal_s = 3300\n", "idle_s = 30\ntotal_s = 40\n", 1) + WAITED
    expected = {
        "vertex": (30, 40),
        "claude": (30, 40),
        "europe": (20, 20),
        "garden": (7, 40),
        "llama": (90, 90),
        "slow": (900, 3_300),
    }
    async with aiohttp.ClientSession() as session:
        upstream_at = upstreams(settings(tmp_path, text), session, Token())
        for name, waited in expected.items():
            upstream = upstream_at(Place(upstream=name)).upstream
            assert (upstream._patience.idle_s, upstream._patience.total_s) == waited, name
            assert upstream._post._head_s == waited[0], name


@pytest.fixture
def made_model():
    def made(upstream_id):
        price = Price(input=1, output=1, cached=1)
        return Model(
            name=ModelName("m"),
            description="",
            upstream_id=upstream_id,
            max_output_tokens=99,
            constraints=frozenset(),
            price=price,
        )

    return made


async def test_one_upstream_for_each_place_and_what_its_wire_can_do(world):
    upstream_at, _ = world
    assert upstream_at(Place(upstream="claude")) is upstream_at(Place(upstream="claude"))
    assert upstream_at(Place(upstream="vertex")) is not upstream_at(Place(upstream="vertex", location="europe-west4"))
    found = {name: upstream_at(Place(upstream=name)) for name in ("vertex", "claude", "llama", "open")}
    assert {name: sorted(served.enforces) for name, served in found.items()} == {
        "vertex": ["choice", "json_schema"],
        "claude": ["json_schema"],
        "llama": ["choice", "json_schema", "regex"],
        "open": ["json_schema"],
    }
    assert [served.thinking for served in found.values()] == [*[ThinkingForm.LEVEL] * 2, *[ThinkingForm.NONE] * 2]


async def test_what_a_model_is_given_comes_from_its_tables(tmp_path):
    read = settings(tmp_path, EXAMPLE)
    async with aiohttp.ClientSession() as session:
        routes = catalogue(read.file.models, upstreams(read, session, Token()), SystemClock())
        (flash,) = [model for model in routes.offered(Granted()) if model.name == "flash"]
    assert flash.verified == {"regex"}
    assert flash.inputs.media == {"image/png": 1_120, "application/pdf": 560_000}
    assert flash.inputs.file_prefixes == ("gs://acme-agent-inputs/",)
    assert flash.inputs.cached["handbook"].upstream_id == "1234567890"
    assert flash.inputs.guards == {Harm.DANGEROUS_CONTENT: Guard.BLOCK_ONLY_HIGH}


class Granted:
    """A caller to whom every model is granted."""

    models = frozenset({"flash", "pro"})
