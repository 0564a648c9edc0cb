"""`gateway check`: yes with a summary, or no with every reason."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.commands.check import check

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "docs" / "gateway.example.toml"
VARIABLES = {
    "EXCHANGE_KEY_ID": "PK0123456789",
    "EXCHANGE_SECRET_KEY": "very-secret-value",
    "EXCHANGE_ORDER_KEY": "k" * 32,
}
CLEAN = dict.fromkeys(("PORT", "GATEWAY_HOST", "GATEWAY_EDGE_IAM", "K_SERVICE", "GATEWAY_CONFIG"))


def run(*arguments, **variables):
    done = CliRunner().invoke(check, [str(argument) for argument in arguments], env=CLEAN | VARIABLES | variables)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def test_the_shipped_example_is_right():
    code, out, err = run(EXAMPLE)
    assert (code, err) == (0, "")
    assert "models: flash, pro" in out
    assert "agents: trader, analyst" in out
    assert "edge: not trusted" in out
    assert not any(value in out for value in VARIABLES.values())


def test_it_says_that_the_edge_is_trusted():
    cloud_run = {"K_SERVICE": "gateway", "GATEWAY_EDGE_IAM": "required", "GATEWAY_LEDGER_MAY_BE_LOST": "accepted"}
    assert "edge: trusted: it may take a token's signature off" in run(EXAMPLE, **cloud_run)[1]


def test_the_variable_names_the_file():
    assert run(GATEWAY_CONFIG=str(EXAMPLE))[0] == 0
    code, _, err = run(GATEWAY_CONFIG="/nowhere/gateway.toml")
    assert (code, err) == (
        2,
        "Error: /nowhere/gateway.toml cannot be used:\n  it cannot be read: No such file or directory\n",
    )


def test_every_fault_is_listed(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text(EXAMPLE.read_text().replace('amount = "500"', 'amount = "5e2"').replace("[policy]", "[polcy]"))
    code, out, err = run(path)
    assert (code, out) == (2, "")
    assert [line.split(":")[0] for line in err.splitlines()] == [
        "Error",
        "  polcy",
        "  policy",
        "  budgets#1.amount",
        "  budgets#4.amount",
    ]


@pytest.mark.parametrize(
    "rules, told",
    [
        ("permit (principal, action, resource) when { nonsense", "more.cedar: is not Cedar: "),
        ("permit (principal, action, resource);", "more.cedar, rule number 1: give it an @id of at most 64"),
        ('@id("extra.all")\npermit (principal, action, resource);', "tests.toml: test '"),
    ],
)
def test_rules_that_cannot_be_used(tmp_path, rules, told):
    for path in (ROOT / "policies").glob("*.*"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "more.cedar").write_text(rules)
    config = tmp_path / "gateway.toml"
    config.write_text(EXAMPLE.read_text().replace('path = "../policies"', 'path = "."'))
    code, out, err = run(config)
    assert (code, out) == (2, "")
    assert err.startswith(f"Error: the rules cannot be used:\n  {told}")
