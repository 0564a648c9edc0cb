"""The registered agents."""

import pytest
from made_tokens import EMAIL, SUB

from gateway.identity.registry import RegisteredAgent, RegisteredOperator, Registry, RegistryError
from gateway.identity.token import Claims
from gateway.terms.caller import Budget, Operator
from gateway.terms.ids import AgentName, Principal, TeamName, TenantName, ToolName
from gateway.terms.money import Unit


def agent(name="desk-agent", **given):
    return RegisteredAgent(
        agent=AgentName(name), team=TeamName("desk"), tenant=TenantName("demo"), role="trader", **given
    )


def said(sub=SUB, email=EMAIL):
    return Claims(subject=Principal(sub), email=email, expires_unix_s=1)


def test_finds_by_number_and_gives_the_operators_word():
    budget = Budget(scope="team:desk", unit=Unit.TOKENS, window="day", amount=5)
    registry = Registry([agent(sub=SUB, tools=frozenset({ToolName("get_clock")}), budgets=(budget,))])
    caller = registry.find(said())
    assert (caller.principal, caller.email, caller.agent, caller.team) == (SUB, EMAIL, "desk-agent", "desk")
    assert (caller.tenant, caller.role, caller.tools, caller.budgets) == ("demo", "trader", {"get_clock"}, (budget,))
    assert caller.models == frozenset()
    assert caller.limits is None


def test_finds_by_address_where_no_number_is_registered():
    assert Registry([agent(email=EMAIL)]).find(said(sub="7")).principal == "7"


def test_an_address_does_not_stand_in_for_a_registered_number():
    """The account was deleted, and another one was made with its address."""
    assert Registry([agent(email=EMAIL, sub=SUB)]).find(said(sub="7")) is None


def test_the_number_goes_before_the_address():
    registry = Registry([agent("one", sub=SUB), agent("two", email=EMAIL)])
    assert registry.find(said()).agent == "one"


@pytest.mark.parametrize("email", [EMAIL.upper(), EMAIL + ".evil.example", ""])
def test_an_address_is_compared_exactly(email):
    assert Registry([agent(email=EMAIL)]).find(said(email=email)) is None


def test_an_empty_registry_knows_nobody():
    assert Registry([]).find(said()) is None


@pytest.mark.parametrize(
    ("agents", "fault"),
    [
        ([agent()], "with the `sub` or the `email`"),
        ([agent("", sub=SUB)], "a name"),
        ([agent(sub="sa-agent")], "digits only"),
        ([agent(sub="")], "digits only"),
        ([agent(email="agent")], "as Google shows it"),
        ([agent("a", sub=SUB), agent("b", sub=SUB)], "the sub"),
        ([agent("a", email=EMAIL), agent("b", email=EMAIL, sub=SUB)], "the email"),
        ([agent(sub=SUB), agent(email=EMAIL)], "the name"),
    ],
)
def test_refuses_registrations_that_contradict_each_other(agents, fault):
    with pytest.raises(RegistryError, match=fault) as caught:
        Registry(agents)
    assert len(caught.value.faults) == 1


def test_lists_every_fault():
    with pytest.raises(RegistryError) as caught:
        Registry([agent("a", sub="x"), agent("a", email="y")])
    assert len(caught.value.faults) == 3


def test_finds_operators_and_tells_them_from_agents():
    registry = Registry([agent(sub=SUB)], [RegisteredOperator(name="oncall", email="ops@acme.example")])
    found = registry.find(said(sub="7", email="ops@acme.example"))
    assert found == Operator(principal="7", email="ops@acme.example", name="oncall")
    assert registry.find(said(sub=SUB)).agent


def test_an_account_that_is_both_is_nobody():
    """Its number is an agent's and its address an operator's: no fault of the file alone, so it shows in the token."""
    registry = Registry([agent(sub=SUB)], [RegisteredOperator(name="oncall", email=EMAIL)])
    assert registry.find(said(sub=SUB, email=EMAIL)) is None


@pytest.mark.parametrize(
    ("operator", "fault"),
    [
        (RegisteredOperator(name="oncall", sub=SUB), "An agent and an operator have the sub"),
        (RegisteredOperator(name="oncall"), "Register operator 'oncall' with the `sub` or the `email`"),
        (RegisteredOperator(name="", sub="7"), "Give every operator a name"),
    ],
)
def test_refuses_operators_that_are_agents_or_nobody(operator, fault):
    with pytest.raises(RegistryError, match=fault):
        Registry([agent(sub=SUB)], [operator])
