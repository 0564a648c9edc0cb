"""Which tools a stream may run: names, versions, what is the caller's own, and bounds."""

from dataclasses import replace

import pytest

from gateway.call.declared import chosen, declared
from gateway.terms.asks import RunTools
from gateway.terms.conversation import Choosing, Conversation, Function
from gateway.terms.limits import FUNCTIONS_MAX
from gateway.terms.verdict import RefusedError
from gateway.tools.declarations import Draft
from gateway.tools.declarations import declared as tool_of

SCHEMA = '{"type":"object","properties":{},"additionalProperties":false}'


def tool(name, version="1"):
    return tool_of(Draft(name=name, version=version, description=f"Does {name}.", arguments_schema=SCHEMA))


def asked(*tools):
    return RunTools(turns_max=8, tools=tools, key="")


def talk(**changes):
    return replace(Conversation(system_instruction="", turns=()), **changes)


def own(name):
    return Function(name=name, description="", parameters_json_schema=SCHEMA)


def refused(call):
    with pytest.raises(RefusedError) as raised:
        call()
    return raised.value.refusal


QUOTE, ORDER, OLD, NEW = tool("get_quote"), tool("place_order"), tool("cancel", "1"), tool("cancel", "2")


def test_without_names_all_of_the_callers_tools_are_run():
    assert chosen([QUOTE, ORDER], asked()) == (QUOTE, ORDER)
    assert chosen([], asked()) == ()


def test_named_tools_are_run_in_the_order_of_their_names():
    assert chosen([QUOTE, ORDER, OLD, NEW], asked("place_order", "cancel@2")) == (ORDER, NEW)
    assert chosen([OLD, NEW], asked("cancel@1")) == (OLD,)


@pytest.mark.parametrize("names", [("cancel",), ()])
def test_of_several_versions_one_must_be_named(names):
    refusal = refused(lambda: chosen([OLD, NEW], asked(*names)))
    assert refusal.reason == "request.malformed"
    assert "cancel@1, cancel@2" in refusal.sentence


@pytest.mark.parametrize("name", ["nothing", "cancel@3", "@1", "", "cancel@"])
def test_what_the_caller_has_not_does_not_exist(name):
    offered = [OLD, NEW] if name == "cancel@3" else [QUOTE]
    assert refused(lambda: chosen(offered, asked(name))).reason == "tool.unknown"


def test_a_tool_is_named_once():
    assert (
        refused(lambda: chosen([OLD, NEW], asked("cancel@1", "cancel@2"))).violations[0].field == "run_tools.tools[1]"
    )


def test_tools_stand_behind_the_callers_own_functions():
    functions = declared(talk(functions=(own("mine"),)), (QUOTE,)).functions
    assert [function.name for function in functions] == ["mine", "get_quote"]
    assert functions[1] == Function(
        name="get_quote", description="Does get_quote.", parameters_json_schema=QUOTE.arguments_schema
    )


def test_a_name_is_the_callers_or_the_gateways():
    refusal = refused(lambda: declared(talk(functions=(own("mine"), own("get_quote"))), (QUOTE,)))
    assert refusal.violations[0].field == "functions[1].name"


def test_there_are_only_so_many_functions():
    mine = tuple(own(f"f{number}") for number in range(FUNCTIONS_MAX))
    assert len(declared(talk(functions=mine[1:]), (QUOTE,)).functions) == FUNCTIONS_MAX
    assert refused(lambda: declared(talk(functions=mine), (QUOTE,))).violations[0].field == "run_tools.tools"


def test_what_must_be_called_must_be_there():
    must = talk(choosing=Choosing.ANY, allowed_functions=("get_quote",))
    assert declared(must, (QUOTE,)).allowed_functions == ("get_quote",)
    assert refused(lambda: declared(must, (ORDER,))).violations[0].field == "function_calling.allowed_names[0]"
    assert refused(lambda: declared(talk(choosing=Choosing.ANY), ())).violations[0].field == "function_calling.mode"
