"""A look-up by our own key proves that a call happened, that it never did, or nothing; an empty answer is no proof."""

import json
from dataclasses import replace

import pytest
from servicecases import LOOKED_UP, REFUND, SERVED, TEXT, act, document, service, status, toolbox_of, watched
from toolcases import asked, resets, says

from gateway.terms.aftercare import NotYet
from gateway.terms.clock import SystemClock
from gateway.terms.money import Unit
from gateway.terms.operations import Failed, Succeeded, Unknown
from gateway.tools.http import HttpTools

BY_QUERY = document(
    (("paths", "/v1/refunds", "get", "parameters"), [{"name": "reference", "in": "query", "schema": TEXT}])
)
SEARCHED = replace(
    LOOKED_UP, lookup_operation="listRefunds", lookup_argument="reference", lookup_found="/refunds/0/reference"
)
LATE_MS = 46_000


@pytest.fixture
async def searching(venue):
    venue.script.clear()
    async with HttpTools(service(venue.url, document=BY_QUERY, tools=(SEARCHED,)), SystemClock()) as backend:
        yield toolbox_of(backend)


@pytest.fixture
async def reading(venue):
    venue.script.clear()
    async with HttpTools(service(venue.url, tools=(LOOKED_UP,)), SystemClock()) as backend:
        yield toolbox_of(backend)


def finds(**members):
    """A list with what was asked for."""

    async def respond(request):
        found = {"reference": request.query["reference"], **members}
        return await says({"refunds": [found], "total": 1})(request)

    return respond


async def no_content(request):
    response = await says("")(request)
    response.set_status(204)
    return response


NOTHING_IN_A_LIST = [
    says({"refunds": [], "total": 0}),
    says([]),
    says("null"),
    says("{}"),
    says({"refunds": [{"reference": "gw-another"}], "total": 1}),
    says({"refunds": [{"reference": None}]}),
    says({"refunds": {"0": []}}),
    says({"refunds": "none"}),
    no_content,
    status(404),
]


@pytest.mark.parametrize("answer", NOTHING_IN_A_LIST)
async def test_a_search_that_finds_nothing_leaves_it_unknown(venue, searching, answer):
    venue.on("POST", "/v1/refunds", status(503))
    venue.on("GET", "/v1/refunds", answer)
    assert isinstance(await act(searching, "refund_by_reference", REFUND), Unknown)
    ask = asked(searching, "refund_by_reference", REFUND, "key-1", SERVED)
    memo = searching.demand(SERVED, ask, {}).memo
    assert isinstance(await searching.look(watched(searching, ask, memo, LATE_MS)), NotYet)
    assert (venue.count("POST"), venue.count("GET")) == (1, 2)


async def test_a_search_that_shows_our_key_is_proof(venue, searching):
    venue.on("POST", "/v1/refunds", resets)
    venue.on("GET", "/v1/refunds", finds(id="r-9"))
    outcome = await act(searching, "refund_by_reference", REFUND)
    assert isinstance(outcome, Succeeded)
    assert dict(outcome.charges) == {Unit.CALLS: 1, Unit.COST: 250_000}
    assert json.loads(outcome.result)["body"]["refunds"][0]["id"] == "r-9"


@pytest.mark.parametrize("answer", [says([]), says("null"), says("{}"), says([{"id": "r-9"}]), no_content])
async def test_an_address_of_one_thing_that_shows_no_thing_proves_nothing(venue, reading, answer):
    venue.on("POST", "/v1/refunds", status(503))
    venue.on("GET", "/v1/references/", answer)
    assert isinstance(await act(reading, "refund_by_reference", REFUND), Unknown)


@pytest.mark.parametrize(
    "answer, kind",
    [(status(404), Failed), (says("<h1>no backend</h1>", 404), NotYet), (says("", 404), NotYet), (status(410), NotYet)],
)
async def test_only_the_services_own_not_found_proves_that_it_never_arrived(venue, reading, answer, kind):
    ask = asked(reading, "refund_by_reference", REFUND, "key-1", SERVED)
    venue.on("GET", "/v1/references/", answer)
    memo = reading.demand(SERVED, ask, {}).memo
    assert isinstance(await reading.look(watched(reading, ask, memo, LATE_MS)), kind)


@pytest.mark.parametrize("code", [409, 422])
@pytest.mark.parametrize(
    "answer, kind", [(says({"id": "r-9"}), Succeeded), (status(404), Failed), (status(503), Unknown), (resets, Unknown)]
)
async def test_a_refusal_that_may_stand_for_our_own_first_sending_is_looked_up(venue, reading, code, answer, kind):
    venue.on("POST", "/v1/refunds", status(code, "the reference is taken"))
    venue.on("GET", "/v1/references/", answer)
    outcome = await act(reading, "refund_by_reference", REFUND)
    assert isinstance(outcome, kind), outcome
    assert venue.count("POST") == 1
