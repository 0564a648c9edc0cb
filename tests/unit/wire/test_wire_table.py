"""What the service table accepts, and what must stop the process at its start."""

import pytest

from gateway.wire.table import Table, TableError, bind
from generated.agentic.gateway.v1.services import METHODS
from generated.grpc.health.v1.services import METHODS as HEALTH

OPERATORS = "/agentic.gateway.v1.OperatorService/"


class ToolService:
    """Right."""

    kinds = ("not a function",)

    async def list_tools(self, request, passage): ...

    async def execute_tool(self, request, passage): ...

    async def dry_run_tool(self, request, passage): ...

    async def get_operation(self, request, passage): ...

    def watch_operation(self, request, passage): ...

    def _private(self): ...


class ModelService:
    """Right, with a plain function that gives a generator."""

    def chat(self, request, passage): ...

    def resume_chat(self, request, passage): ...

    async def count_tokens(self, request, passage): ...

    async def list_models(self, request, passage): ...


def named(name, base, **members):
    return type(name, (base,), members)()


def test_every_method_of_the_service_is_bound():
    table = bind(METHODS, ToolService())
    assert sorted(table.routes) == [
        "/agentic.gateway.v1.ToolService/DryRunTool",
        "/agentic.gateway.v1.ToolService/ExecuteTool",
        "/agentic.gateway.v1.ToolService/GetOperation",
        "/agentic.gateway.v1.ToolService/ListTools",
        "/agentic.gateway.v1.ToolService/WatchOperation",
    ]
    for path, route in table.routes.items():
        assert route.method.path == path
        assert route.call.__name__ in {
            "list_tools",
            "execute_tool",
            "dry_run_tool",
            "get_operation",
            "watch_operation",
        }
        assert not route.vital


def test_tables_join_and_know_their_services():
    table = bind(METHODS, ToolService()).joined(bind(METHODS, ModelService()))
    assert table.routes.keys() == {method.path for method in METHODS if not method.path.startswith(OPERATORS)}
    assert table.services == ("agentic.gateway.v1.ModelService", "agentic.gateway.v1.ToolService")


def test_a_path_is_bound_once():
    table = bind(METHODS, ToolService())
    with pytest.raises(TableError, match=r"bound twice: /agentic\.gateway\.v1\.ToolService/DryRunTool"):
        table.joined(bind(METHODS, ToolService()))


def test_a_missing_function_is_refused():
    with pytest.raises(TableError, match="ToolService has no function get_operation"):
        bind(METHODS, named("ToolService", ToolService, get_operation=None))


def test_a_function_that_is_no_rpc_is_refused():
    async def execute_tols(self, request, passage): ...

    with pytest.raises(TableError, match="no rpc of the service: execute_tols"):
        bind(METHODS, named("ToolService", ToolService, execute_tols=execute_tols))


def test_the_class_must_be_named_like_the_service():
    with pytest.raises(TableError, match="Tools is not the name of a service"):
        bind(METHODS, named("Tools", ToolService))


def test_one_reply_needs_a_coroutine_function():
    with pytest.raises(TableError, match=r"list_tools must be `async def`"):
        bind(METHODS, named("ToolService", ToolService, list_tools=lambda self, request, passage: None))


def test_many_replies_need_a_generator():
    async def chat(self, request, passage): ...

    with pytest.raises(TableError, match="chat must give an async generator"):
        bind(METHODS, named("ModelService", ModelService, chat=chat))


def test_vital_methods_are_named():
    class Health:
        async def check(self, request, passage): ...

        async def watch(self, request, passage):
            yield

    table = bind(HEALTH, Health(), vital=("Check",))
    assert {path.rpartition("/")[2]: route.vital for path, route in table.routes.items()} == {
        "Check": True,
        "Watch": False,
    }


def test_an_empty_table_has_no_services():
    assert Table(routes={}).services == ()
