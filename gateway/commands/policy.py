"""`gateway policy`: the rules' own tests, and why a call is permitted or refused."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from gateway.policy.cedar import CedarPolicy
from gateway.policy.rule_set import PolicyLoadError, read_files
from gateway.policy.schema import PolicyInputs
from gateway.policy.testing import TESTS_FILE, explain, read_tests, run_tests
from gateway.tools.alpaca_tools import PLACE_ORDER, PLACE_ORDER_FACTS, declarations

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


def _inputs() -> PolicyInputs:
    """What the rules are about: the tools of this version."""
    return PolicyInputs(tools=declarations(10_000), facts={PLACE_ORDER: PLACE_ORDER_FACTS})


@click.group()
def policy() -> None:
    """Test and explain policies."""


@policy.command()
@click.argument("folder", type=FOLDER, default="policies")
def test(folder: Path) -> None:
    """Validate the rules in FOLDER and run their own tests (tests.toml)."""
    inputs = _inputs()
    try:
        rules = CedarPolicy.compile(read_files(folder), inputs)
        cases = read_tests(folder / TESTS_FILE, inputs.tools)
    except PolicyLoadError as error:
        raise click.ClickException("\n  ".join(["the rules cannot be used:", *map(str, error.faults)])) from error
    failures = run_tests(rules, cases)
    for failure in failures:
        click.echo(f"FAILED {failure.name}: expected {failure.expected}, got {failure.got}")
    passed = len(cases) - len(failures)
    click.echo(f"{len(rules.rules)} rules, {passed} of {len(cases)} tests pass, policy hash {rules.hash}")
    sys.exit(1 if failures else 0)


@policy.command(name="explain")
@click.argument("case_name")
@click.argument("folder", type=FOLDER, default="policies")
def explain_case(case_name: str, folder: Path) -> None:
    """Show what the rules in FOLDER are asked for the test CASE_NAME, and what they answer.

    Write the call that you want explained as a case into tests.toml; it stays as a test.
    """
    inputs = _inputs()
    try:
        rules = CedarPolicy.compile(read_files(folder), inputs)
        cases = {case.name: case for case in read_tests(folder / TESTS_FILE, inputs.tools)}
    except PolicyLoadError as error:
        raise click.ClickException("\n  ".join(["the rules cannot be used:", *map(str, error.faults)])) from error
    case = cases.get(case_name)
    if case is None:
        raise click.ClickException("no such case; there are:\n  " + "\n  ".join(cases))
    found = explain(rules, case.caller, case.ask, case.facts)
    click.echo(json.dumps(asdict(found), indent=2, default=str))


@policy.command()
def schema() -> None:
    """Print the Cedar schema that rules are validated against."""
    click.echo(CedarPolicy.compile((), _inputs()).schema_text)
