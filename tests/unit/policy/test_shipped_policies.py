"""The shipped set, over the exchange's own tools."""

import dataclasses

import pytest

import policies
from gateway.policy.cedar import CedarPolicy
from gateway.policy.rule_set import PolicyFile, PolicyLoadError, read_files
from gateway.policy.schema import PolicyInputs
from gateway.policy.testing import read_tests, run_tests
from gateway.tools.alpaca_tools import PLACE_ORDER, PLACE_ORDER_FACTS, declarations

TOOLS = declarations(5_000)
INPUTS = PolicyInputs(tools=TOOLS, facts={PLACE_ORDER: PLACE_ORDER_FACTS})
CASES = read_tests(policies.folder() / "tests.toml", TOOLS)


def test_it_loads_and_passes_its_own_tests():
    policy = CedarPolicy.load(policies.folder(), INPUTS)
    assert set(policy.rules) == {
        "base.trade",
        "base.read",
        "base.rehearse",
        "base.converse",
        "base.inquire",
        "orders.restricted",
        "orders.large",
        "orders.standing",
    }
    assert len(CASES) >= 20


def test_every_rule_decides_in_some_test():
    decided = {rule for case in CASES for rule in case.rules}
    assert decided == set(CedarPolicy.load(policies.folder(), INPUTS).rules)


def without(files, rule):
    """The set without one rule."""
    changed = []
    for file in files:
        before, found, after = file.text.partition(f'@id("{rule}")')
        changed.append(PolicyFile(name=file.name, text=before + after.partition(";\n")[2] if found else file.text))
    return tuple(changed)


@pytest.mark.parametrize("rule", sorted({rule for case in CASES for rule in case.rules}))
def test_no_rule_can_be_lost_unnoticed(rule):
    files = without(read_files(policies.folder()), rule)
    policy = CedarPolicy.compile(files, INPUTS)
    assert rule not in policy.rules
    assert run_tests(policy, CASES)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("> 25000000000", ">= 25000000000"),
        ("> 25000000000", "> 25000000001"),
        ('"GOOG", "GOOGL"', '"GOOG"'),
        ('@advice("approval")\n@say("An order of', '@say("An order of'),
        ('resource.effect == "read" &&', ""),
        ('principal.role == "trader" && ', ""),
        ("when { principal.models.contains(resource.name) }", ""),
    ],
)
def test_no_rule_can_be_changed_unnoticed(right, wrong):
    files = read_files(policies.folder())
    assert sum(right in file.text for file in files) == 1
    changed = tuple(dataclasses.replace(file, text=file.text.replace(right, wrong)) for file in files)
    assert run_tests(CedarPolicy.compile(changed, INPUTS), CASES)


def test_without_the_exchange_it_is_refused_and_says_why():
    with pytest.raises(PolicyLoadError, match="place_order"):
        CedarPolicy.load(policies.folder(), PolicyInputs(tools=(), facts={}))
