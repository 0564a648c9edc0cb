"""The configured models as routes: every name with its targets, their prices, and how they are treated."""

from collections.abc import Sequence
from dataclasses import replace

from gateway.assembly.parts import AssemblyError
from gateway.assembly.upstreams import Place, UpstreamAt, cached_at, inputs_of
from gateway.llm.breaker import BreakerTerms
from gateway.llm.catalogue import ModelCatalogue
from gateway.llm.retry_budget import RetryTerms
from gateway.llm.route import Route, RouteTerms
from gateway.llm.standing import Target
from gateway.llm.tries import Surroundings
from gateway.settings.amounts import prices
from gateway.settings.model_tables import ModelTable, TargetTable
from gateway.settings.serving import places
from gateway.terms.clock import Clock, SystemChance, system_sleep
from gateway.terms.ids import ModelName
from gateway.terms.models import Model, ThinkingForm, dearest
from gateway.terms.verdict import Refusal


def catalogue(tables: Sequence[ModelTable], upstream_at: UpstreamAt, clock: Clock) -> ModelCatalogue:
    """The routes by their models' names. Raises `AssemblyError` for a model that has no price today."""
    around = Surroundings(clock=clock, chance=SystemChance(), sleep=system_sleep)
    routes = {ModelName(table.name): _route(table, upstream_at, around) for table in tables}
    for name, route in routes.items():
        if isinstance(route.model_at(clock.unix_us()), Refusal):
            raise AssemblyError(f"models.{name}: no price is valid today: write one that is, for every target")
    return ModelCatalogue(routes, clock)


def _route(table: ModelTable, upstream_at: UpstreamAt, around: Surroundings) -> Route:
    price = dearest(dated.price for place in places(table) for dated in prices(place, table))
    model = Model(
        name=ModelName(table.name),
        description=table.description,
        upstream_id=table.upstream_id,
        max_output_tokens=table.max_output_tokens,
        constraints=frozenset[str](table.constraints),
        verified=frozenset[str](table.verified_constraints),
        inputs=inputs_of(table),
        price=price,
        holds_typical=table.hold == "typical",
    )
    return Route(model, [_target(place, table, model, upstream_at) for place in places(table)], _terms(table), around)


def _target(place: TargetTable, table: ModelTable, model: Model, upstream_at: UpstreamAt) -> Target:
    upstream_id = place.upstream_id or table.upstream_id
    served = upstream_at(
        Place(
            upstream=place.upstream or table.upstream,
            location=place.location,
            throughput=place.throughput,
            tier=place.tier,
        )
    )
    thinking = place.thinking or table.thinking
    return Target(
        name=place.name,
        model=replace(
            model,
            upstream_id=upstream_id,
            inputs=replace(model.inputs, cached=cached_at(place, table)),
            constraints=model.constraints & served.enforces,
            thinking=ThinkingForm(thinking) if thinking else served.thinking,
        ),
        upstream=served.upstream,
        prices=prices(place, table),
        tokenizer=f"{served.upstream.name}/{upstream_id}",
        weight=place.weight,
        order=place.order,
    )


def _terms(table: ModelTable) -> RouteTerms:
    """One attempt for each target, unless the file says otherwise: a model of one target is asked once."""
    retry, breaker = table.retry, table.breaker
    return RouteTerms(
        retry=RetryTerms(
            attempts=retry.attempts or max(len(table.targets), 1),
            percent=retry.budget_percent,
            burst=retry.burst,
            wait_ms_max=retry.wait_ms_max,
            first_delta_ms=retry.first_delta_ms,
            hedge_after_ms=retry.hedge_after_ms,
            hedge_same_target=retry.hedge_to == "same",
        ),
        breaker=BreakerTerms(
            failures=breaker.failures,
            window_ms=breaker.window_ms,
            open_ms=breaker.open_ms,
            open_ms_max=breaker.open_ms_max,
        ),
    )
