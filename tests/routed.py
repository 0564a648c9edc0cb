"""A route of several targets in a whole gateway, and what its caller, its record and its upstream were told of it."""

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from made_routes import MostChance, Waits
from whole import FLASH, agent, budget

from gateway.llm.breaker import BreakerTerms
from gateway.llm.retry_budget import RetryTerms
from gateway.llm.route import Route, RouteTerms
from gateway.llm.standing import Target
from gateway.llm.tries import Surroundings
from gateway.terms.models import DatedPrice, Price

A, B, C = "gemini-3.5-flash", "gemini-3.6-flash", "gemini-3.7-flash"
BUDGETS = (budget("calls", 10_000), budget("tokens", 10**9), budget("cost_micro_usd", 10**12))
TEN = "@pace deltas=10 interval_ms=0 size=2\nTell me something."
CHEAP = Price(input=300_000, output=2_500_000, cached=75_000)
DEAR = Price(input=3_000_000, output=25_000_000, cached=750_000)


def always(price):
    return (DatedPrice(valid_from="", from_unix_us=0, price=price),)


@dataclass
class Plan:
    """A route as a test wants it."""

    targets: tuple = ((A, {}), (B, {"order": 2}))
    retry: RetryTerms = field(default_factory=lambda: RetryTerms(attempts=2))
    breaker: BreakerTerms = field(default_factory=lambda: BreakerTerms(failures=3, open_ms=5_000))
    chance: object = None
    model: object = FLASH
    kept: dict = field(default_factory=dict)
    """The cached beginnings of each target."""
    sleep: object = None
    """In the place of waits that move the clock."""
    budgets: tuple = BUDGETS
    wrapped: object = None
    """See `whole.Plan`."""


@asynccontextmanager
async def routed(around, folder, plan):
    """A gateway whose model `flash` is this route; gives it, the route and the waits."""
    waits, made = Waits(around.clock.pass_s), []

    def routes(upstream):
        targets = [
            Target(
                **{"name": name, "prices": always(CHEAP), "tokenizer": name, "upstream": upstream} | more,
                model=replace(
                    plan.model, upstream_id=name, inputs=replace(plan.model.inputs, cached=plan.kept.get(name, {}))
                ),
            )
            for name, more in plan.targets
        ]
        surroundings = Surroundings(clock=around.clock, chance=plan.chance or MostChance(), sleep=plan.sleep or waits)
        made.append(Route(plan.model, targets, RouteTerms(retry=plan.retry, breaker=plan.breaker), surroundings))
        return {plan.model.name: made[0]}

    async with around.gateway(folder, [agent(budgets=plan.budgets)], routes=routes, wrapped=plan.wrapped) as whole:
        yield whole, made[0], waits


def attempts(closed):
    return [(one.target, one.code or None) for one in closed.attempts]


def recorded_attempts(whole):
    """Of the last outcome, however it ended."""
    record = whole.told("outcome")[-1]
    account = json.loads(record.get("account") or record["result"])
    return [(one["target"], one["fault"]) for one in account["attempts"]]


def asked(around):
    """Which models the upstream was asked for a stream."""
    return [entry.model for entry in around.vertex.journal.entries if "streamGenerateContent" in entry.path]


async def closed_of(whole, text=TEN, **options):
    return (await whole.converse(text, **options))[-1]


def standing(route, around):
    now_ns = around.clock.monotonic_ns()
    return [one.breaker.standing(now_ns) for one in route._standings]


def replace_upstream(route, place, made):
    """Put what `made` makes of a target's upstream in its place."""
    target = route._standings[place].target
    route._standings[place].target = replace(target, upstream=made(target.upstream))
