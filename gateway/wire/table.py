"""The service table: path -> method, function and codec. Every wire protocol drives this one table."""

import inspect
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.terms.passage import Passage
from generated.agentic.gateway.v1.codec import CODECS as GATEWAY_CODECS
from generated.grpc.health.v1.codec import CODECS as HEALTH_CODECS
from generated.grpc.reflection.v1.codec import CODECS as REFLECTION_CODECS
from generated.service_table import Cardinality, Method
from generated.wire_format import Codec

UnaryUnary = Callable[[Any, Passage], Awaitable[Any]]
UnaryStream = Callable[[Any, Passage], AsyncGenerator[Any, None]]
StreamUnary = Callable[[AsyncIterator[Any], Passage], Awaitable[Any]]
StreamStream = Callable[[AsyncIterator[Any], Passage], AsyncGenerator[Any, None]]

Call = UnaryUnary | UnaryStream | StreamUnary | StreamStream
"""What answers a method: awaited for one reply, iterated for many. Refusals are raised as `RefusedError`."""

_CODECS: Final[Mapping[type, Codec]] = {**GATEWAY_CODECS, **HEALTH_CODECS, **REFLECTION_CODECS}
_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class TableError(Exception):
    """The service table cannot be built; the process must not start (invariant 10)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method and what answers it."""

    method: Method
    call: Call
    request_codec: Codec
    reply_codec: Codec
    vital: bool = False
    """Answered also when the gateway is full or draining, because the answer says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All routes by path."""

    routes: Mapping[str, Route]

    @property
    def services(self) -> tuple[str, ...]:
        """The full names of all services, in the order of their names."""
        return tuple(sorted({route.method.service for route in self.routes.values()}))

    def joined(self, other: "Table") -> "Table":
        """Both; a path in both is a `TableError`."""
        twice = self.routes.keys() & other.routes.keys()
        if twice:
            raise TableError(f"bound twice: {', '.join(sorted(twice))}")
        return Table(routes={**self.routes, **other.routes})


def bind(methods: Iterable[Method], implementation: object, *, vital: Iterable[str] = ()) -> Table:
    """Join the methods of one service with the object that answers them.

    The implementation's class is named like the service. It has one public method for each rpc, named in snake_case,
    and no other: `async def` for one reply, a function that gives an async generator for many. `vital` names the rpcs
    whose routes are vital. Raises `TableError` for anything else.
    """
    name = type(implementation).__name__
    own = [method for method in methods if method.service.rpartition(".")[2] == name]
    if not own:
        raise TableError(f"{name} is not the name of a service of these methods")
    wanted = {_WORD.sub("_", method.name).lower(): method for method in own}
    unknown = _public_functions(implementation) - wanted.keys()
    if unknown:
        raise TableError(f"{name} has functions that are no rpc of the service: {', '.join(sorted(unknown))}")
    return Table(
        routes={
            method.path: _route(method, implementation, function, vital=method.name in vital)
            for function, method in wanted.items()
        }
    )


def _public_functions(implementation: object) -> set[str]:
    return {
        name
        for name, value in inspect.getmembers(type(implementation), inspect.isroutine)
        if not name.startswith("_") and not isinstance(value, type)
    }


def _route(method: Method, implementation: object, function: str, *, vital: bool) -> Route:
    call = getattr(implementation, function, None)
    if not callable(call):
        raise TableError(f"{type(implementation).__name__} has no function {function} for {method.path}")
    if inspect.iscoroutinefunction(call) is method.cardinality.reply_streams:
        wanted = "give an async generator" if method.cardinality.reply_streams else "be `async def`"
        raise TableError(f"{type(implementation).__name__}.{function} must {wanted}: {method.cardinality.value}")
    return Route(
        method=method,
        call=call,
        request_codec=_codec(method.request),
        reply_codec=_codec(method.reply),
        vital=vital,
    )


def _codec(message: type) -> Codec:
    codec = _CODECS.get(message)
    if codec is None:
        raise TableError(f"no codec is registered for {message.__module__}.{message.__qualname__}")
    return codec


__all__ = ["Call", "Cardinality", "Route", "Table", "TableError", "bind"]
