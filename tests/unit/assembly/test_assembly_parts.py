"""What a gateway is made of: what the file says about agents, tools and rules, or a sentence."""

import pytest
from made_settings import ROOT, made

from gateway.assembly.parts import AssemblyError, checked, every_tool, known_scopes, parts_of, policy_inputs
from gateway.identity.token import Claims
from gateway.settings.faults import SettingsError
from gateway.terms.money import Unit


def test_an_agent_is_what_the_file_says(tmp_path):
    registry = parts_of(made(tmp_path)).registry
    trader = registry.find(Claims(subject="77", email="sa-agent@acme-agents.iam.gserviceaccount.com", expires_unix_s=0))
    assert (trader.agent, trader.team, trader.tenant, trader.role) == ("trader", "desk", "acme", "trader")
    assert trader.models == {"flash", "pro"}
    assert "place_order" in trader.tools
    assert trader.limits.notional_max == 10_000_000_000
    assert trader.limits.quantity_max == 100_000_000_000
    assert (trader.limits.shared.duplicates_ms, trader.limits.shared.barriers_ms) == (1_000, (60_000,))
    assert [(budget.scope, budget.unit, budget.window, budget.amount) for budget in trader.budgets] == [
        ("tenant:acme", Unit.COST, "month", 500_000_000),
        ("team:desk", Unit.NOTIONAL, "day", 50_000_000_000),
        ("agent:trader", Unit.TOKENS, "hour", 2_000_000),
        ("run", Unit.CALLS, "total", 50),
    ]
    analyst = registry.find(
        Claims(subject="78", email="sa-analyst@acme-agents.iam.gserviceaccount.com", expires_unix_s=0)
    )
    assert analyst.limits is None
    assert [budget.scope for budget in analyst.budgets] == ["tenant:acme", "agent:analyst", "run"]


def test_every_tool_that_nobody_offers_is_named(tmp_path):
    with pytest.raises(SettingsError) as refused:
        parts_of(made(tmp_path, **{'"place_order", "cancel_order"': '"place_ordr"', '"get_clock"': '"clock"'}))
    assert [fault.split(":")[0:2] for fault in refused.value.faults] == [
        ["agents.trader.tools", " 'place_ordr' is not offered"],
        ["agents.trader.tools", " 'clock' is not offered"],
        ["agents.analyst.tools", " 'clock' is not offered"],
    ]


def test_rules_that_fail_their_own_tests_are_refused(tmp_path):
    rules = tmp_path / "rules"
    rules.mkdir()
    for path in (ROOT / "policies").glob("*.*"):
        (rules / path.name).write_text(path.read_text())
    (rules / "more.cedar").write_text('@id("extra.all")\npermit (principal, action, resource);\n')
    with pytest.raises(AssemblyError, match=r"the rules cannot be used:\n  tests\.toml: test '"):
        parts_of(made(tmp_path, **{str(ROOT / "policies"): str(rules)}))


def test_no_rules_at_all_are_refused(tmp_path):
    with pytest.raises(AssemblyError, match=r"the rules cannot be used:\n  .*/none: cannot be read"):
        parts_of(made(tmp_path, **{str(ROOT / "policies"): str(tmp_path / "none")}))


def test_what_the_rules_are_about_needs_no_secrets_and_is_what_serve_offers(tmp_path):
    settings = made(tmp_path)
    parts = parts_of(settings)
    inputs = policy_inputs(settings.file, settings.base)
    assert inputs == every_tool()
    assert inputs.tools == parts.toolbox.declarations
    assert inputs.facts == parts.toolbox.fact_types


def test_what_a_halt_can_stop_is_what_is_configured(tmp_path):
    settings = made(tmp_path)
    parts = parts_of(settings)
    known, file = known_scopes(settings.file, parts.toolbox), settings.file
    for scope in (
        "all",
        f"tenant:{file.tenant}",
        f"agent:{file.agents[0].name}",
        f"team:{file.agents[0].team}",
        f"venue:{file.venues[0].name}",
        f"model:{file.models[0].name}",
        "tool:place_order",
        "symbol:AAPL",
        "symbol:BRK.B",
    ):
        assert known.knows(scope), scope
    for scope in ("agent:nobody", "venue:all", "symbol:aapl", "symbol:BTC/USDT", "tool:all", "role:trader"):
        assert not known.knows(scope), scope


def test_a_check_tells_what_it_found_and_no_secret(tmp_path):
    text = "\n".join(checked(made(tmp_path)))
    assert "8 rules, their own tests pass" in text
    assert "place_order" in text
    assert "very-secret-value" not in text
    assert not (tmp_path / "gateway.db").exists()
