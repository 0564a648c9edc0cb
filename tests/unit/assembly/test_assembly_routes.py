"""The routes that a configuration makes: whom they ask, with which headers, and at which price."""

import pytest
from made_settings import made

from gateway.assembly.parts import AssemblyError
from gateway.assembly.routes import catalogue
from gateway.assembly.upstreams import Served
from gateway.llm.throughput import Throughput, Tier, throughput_headers
from gateway.terms.ids import ModelName
from gateway.terms.models import ThinkingForm

DAY_US = 86_400_000_000
DAYS_TO_2026 = 20_454


class Clock:
    """A day of a year, counted from the beginning of 2026."""

    def __init__(self, day):
        self.day = day

    def unix_us(self):
        return (DAYS_TO_2026 + self.day) * DAY_US

    def monotonic_ns(self):
        return self.unix_us() * 1_000


class Place:
    """An upstream of which only its place is known."""

    name = "vertex"

    def __init__(self, *place):
        self.place = place

    def check(self, model, conversation):
        return None


def served(place):
    upstream = Place(place.location, place.throughput, place.tier)
    return Served(upstream=upstream, enforces=frozenset({"choice"}), thinking=ThinkingForm.LEVEL)


def routes(tmp_path, clock, **replaced):
    return catalogue(made(tmp_path, **replaced).file.models, served, clock)._routes


def test_every_target_is_asked_in_its_place_by_its_name_and_weight(tmp_path):
    made_routes = routes(tmp_path, Clock(0))
    (flash,) = made_routes[ModelName("flash")]._standings
    assert (flash.target.name, flash.target.model.upstream_id) == ("flash", "gemini-3.5-flash")
    assert flash.target.upstream.place == ("", "any", "standard")
    # What the model is held to, as far as this place's wire has words for it.
    assert flash.target.model.constraints == {"choice"}
    bought, europe, lite = (one.target for one in made_routes[ModelName("pro")]._standings)
    assert (bought.order, bought.weight, bought.upstream.place) == (1, 1, ("", "dedicated", "standard"))
    assert (europe.order, europe.weight, europe.upstream.place) == (2, 9, ("europe-west1", "shared", "standard"))
    assert bought.model.upstream_id == europe.model.upstream_id == "gemini-3.5-pro"
    assert bought.tokenizer == europe.tokenizer != lite.tokenizer
    assert lite.model.upstream_id == "gemini-3.5-flash"


def test_a_cached_beginning_belongs_to_one_model_at_one_place(tmp_path):
    kept = '[[models.caches]]\nname = "{}"\nid = "{}"\ntokens_max = {}\n\n'
    more = kept.format("handbook", "1", 900) + kept.format("law", "2", 50)
    beside = 'upstream_id = "gemini-3.5-flash"\norder = 2\nthroughput = "shared"\n'
    route = routes(
        tmp_path,
        Clock(0),
        **{
            '[[models.targets]]\nname = "bought"': f'{more}[[models.targets]]\nname = "bought"',
            'upstream_id = "gemini-3.5-flash"\norder = 2\n': beside,
        },
    )[ModelName("pro")]
    of = {
        one.target.name: {name: (cache.upstream_id, cache.tokens_max) for name, cache in cached(one.target.model)}
        for one in route._standings
    }
    assert of == {
        "bought": {"handbook": ("1", 900), "law": ("2", 50)},
        "europe": {"handbook": ("2345678901", 45_000)},
        "lite": {},
    }
    # Callers are offered all of them, and what is held is held for the longest of a name.
    assert {name: cache.tokens_max for name, cache in cached(route.model_at(Clock(0).unix_us()))} == {
        "handbook": 45_000,
        "law": 50,
    }


def cached(model):
    return model.inputs.cached.items()


def test_a_model_of_one_place_is_asked_once_and_one_of_several_once_for_each(tmp_path):
    plain = routes(tmp_path, Clock(0), **{"attempts = 3\n": ""})
    assert plain[ModelName("flash")]._terms.retry.attempts == 1
    assert plain[ModelName("pro")]._terms.retry.attempts == 3
    assert plain[ModelName("flash")].model_at(Clock(0).unix_us()).spoilt_max == 0
    assert plain[ModelName("pro")].model_at(Clock(0).unix_us()).spoilt_max == 1


def test_a_hedge_is_wanted_by_the_file_or_never_sent(tmp_path):
    plain = routes(tmp_path, Clock(0))
    assert [route.model_at(Clock(0).unix_us()).hedges for route in plain.values()] == [False] * len(plain)
    hedged = routes(tmp_path, Clock(0), **{"first_delta_ms = 0": "hedge_after_ms = 900"})[ModelName("pro")]
    model, terms = hedged.model_at(Clock(0).unix_us()), hedged._terms.retry
    assert (model.hedges, model.spoilt_max) == (True, 1)
    assert (terms.hedge_after_ms, terms.hedge_same_target) == (900, False)
    assert model.tokenizers["bought"] == model.tokenizers["europe"] != model.tokenizers["lite"]


def test_the_day_decides_what_a_model_costs(tmp_path):
    pro = routes(tmp_path, Clock(0))[ModelName("pro")]
    before, after = pro.model_at(Clock(364).unix_us()), pro.model_at(Clock(365).unix_us())
    assert (before.price.input, after.price.input) == (2_000_000, 1_800_000)
    assert before.dated_price("bought").valid_from == "2026-01-01"
    assert after.dated_price("europe").price.output == 11_000_000
    assert after.dated_price("lite").price.output == 2_500_000


def test_a_gateway_does_not_start_with_a_model_that_costs_nothing_yet(tmp_path):
    with pytest.raises(AssemblyError, match=r"models\.pro: no price is valid today"):
        routes(tmp_path, Clock(-1))


@pytest.mark.parametrize(
    "throughput, tier, headers",
    [
        ("any", "standard", {}),
        ("dedicated", "standard", {"X-Vertex-AI-LLM-Request-Type": "dedicated"}),
        ("any", "priority", {"X-Vertex-AI-LLM-Shared-Request-Type": "priority"}),
        (
            "shared",
            "flex",
            {"X-Vertex-AI-LLM-Request-Type": "shared", "X-Vertex-AI-LLM-Shared-Request-Type": "flex"},
        ),
    ],
)
def test_capacity_is_asked_for_by_headers(throughput, tier, headers):
    assert throughput_headers(Throughput(throughput), Tier(tier)) == headers
