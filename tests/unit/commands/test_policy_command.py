"""`gateway policy`: the rules' own tests, from a shell."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.commands.policy import policy

ROOT = Path(__file__).resolve().parents[3]
POLICIES = ROOT / "policies"
EXAMPLE = ROOT / "docs" / "gateway.example.toml"


def run(*arguments):
    done = CliRunner().invoke(policy, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def copied(tmp_path):
    """The shipped rules, to be changed."""
    for path in POLICIES.glob("*.*"):
        (tmp_path / path.name).write_text(path.read_text())
    return tmp_path


def test_the_shipped_rules_pass_their_tests():
    code, out, err = run("test", POLICIES)
    assert (code, err) == (0, "")
    assert "8 rules, 36 of 36 tests pass, policy hash " in out


def test_a_configuration_names_rules_and_tools_without_its_secrets(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run("test", "--config", EXAMPLE) == run("test", POLICIES)
    assert run("schema", "--config", EXAMPLE) == run("schema")


def test_a_folder_counts_more_than_the_configurations(copied):
    (copied / "tests.toml").write_text("")
    assert run("test", copied, "--config", EXAMPLE)[0] == 2


def test_the_rules_of_a_configuration_without_a_venue_know_no_tools(tmp_path):
    text = EXAMPLE.read_text()
    start, end = text.index("[[venues]]"), text.index("# What an agent with these limits")
    text = (text[:start] + text[end:]).replace("\ntools = [", "\n# tools = [").replace("../policies", str(POLICIES))
    config = tmp_path / "gateway.toml"
    config.write_text(text)
    code, _, err = run("test", "--config", config)
    assert code == 2
    assert "place_order" in err
    assert "place_order" not in run("schema", "--config", config)[1]


def test_a_bad_configuration_is_refused_as_everywhere(tmp_path):
    config = tmp_path / "gateway.toml"
    config.write_text("")
    code, _, err = run("test", "--config", config)
    assert code == 2
    assert err.startswith(f"Error: {config} cannot be used:\n  tenant: is missing: write it\n")


def test_a_rule_that_changes_a_verdict_is_found(copied):
    tests = (copied / "tests.toml").read_text().replace('expect = "permit"', 'expect = "refuse"', 1)
    (copied / "tests.toml").write_text(tests)
    code, out, _ = run("test", copied)
    assert code == 1
    assert out.startswith("FAILED a trader buys within the limits: expected refuse (policy.denied) by base.trade, got ")
    assert "35 of 36 tests pass" in out


@pytest.mark.parametrize(
    "name, text, told",
    [
        ("base.cedar", "permit (", "base.cedar: is not Cedar: "),
        ("tests.toml", "[[cases]", "tests.toml: is refused: "),
        ("tests.toml", "", "tests.toml: "),
    ],
)
def test_what_cannot_be_read_has_exit_code_2(copied, name, text, told):
    (copied / name).write_text(text)
    code, out, err = run("test", copied)
    assert (code, out) == (2, "")
    assert err.startswith(f"Error: the rules in {copied} cannot be used:\n  {told}")


def test_no_rules_no_tests(tmp_path):
    code, _, err = run("test", tmp_path)
    assert code == 2
    assert "has 0 files *.cedar" in err


def test_a_case_is_explained():
    code, out, _ = run("explain", "a trader buys within the limits", POLICIES)
    told = json.loads(out)
    assert code == 0
    assert (told["verdict"], told["rules"]) == ("permit", ["base.trade"])
    assert told["put"]["action"] == "place_order"
    assert told["put"]["context"]["arguments"]["symbol"] == "AAPL"


def test_an_unknown_case_is_answered_with_those_there_are():
    code, _, err = run("explain", "nonsense\x1b[31m", POLICIES)
    assert code == 2
    assert err.startswith("Error: no case has the name 'nonsense\\x1b[31m'; there are:\n  a trader buys within the")


def test_the_schema_is_in_cedars_own_words():
    code, out, _ = run("schema")
    assert code == 0
    assert out.startswith("entity Agent = {")
    assert 'action "place_order" appliesTo {' in out
