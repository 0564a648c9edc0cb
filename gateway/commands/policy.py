"""`gateway policy`: the rules' own tests, and why a call is permitted or refused."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeVar

import click

from gateway.assembly.parts import every_tool, policy_inputs
from gateway.commands.shown import CannotError
from gateway.policy.cedar import CedarPolicy
from gateway.policy.rule_set import PolicyLoadError, read_files
from gateway.policy.schema import PolicyInputs
from gateway.policy.testing import TESTS_FILE, Case, explain, read_tests, run_tests
from gateway.settings.faults import SettingsError
from gateway.settings.reading import read_file
from gateway.terms.visible import visible

Command = TypeVar("Command", bound=Callable[..., None])

FOLDER: Final = "policies"
_folder = click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False)
_config = click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Take the tools of this configuration, and its rules unless FOLDER is named. Its secrets are not read.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """Rules that were validated, and the cases that say what they are meant to do."""

    rules: CedarPolicy
    cases: tuple[Case, ...]


def _chosen(folder: Path | None, config: Path | None) -> tuple[Path, PolicyInputs]:
    """Which rules, and what they are about: the tools of a configuration, or all of this version."""
    if config is None:
        return folder or Path(FOLDER), every_tool()
    try:
        file = read_file(config)
        inputs = policy_inputs(file, config.absolute().parent)
    except (SettingsError, ValueError) as error:
        raise CannotError(str(error)) from error
    return folder or config.absolute().parent / file.policy.path, inputs


def _loaded(folder: Path | None, config: Path | None) -> _Loaded:
    place, inputs = _chosen(folder, config)
    try:
        rules = CedarPolicy.compile(read_files(place), inputs)
        return _Loaded(rules=rules, cases=read_tests(place / TESTS_FILE, inputs.tools))
    except PolicyLoadError as error:
        raise CannotError("\n  ".join((f"the rules in {place} cannot be used:", *map(str, error.faults)))) from error


@click.group()
def policy() -> None:
    """Test and explain policies."""


@policy.command()
@_folder
@_config
def test(folder: Path | None, config: Path | None) -> None:
    """Validate the rules in FOLDER (policies) and run their own tests (tests.toml).

    Exit code 0: all pass. 1: each that does not is named. 2: the rules or the tests cannot be read.
    """
    loaded = _loaded(folder, config)
    failures = run_tests(loaded.rules, loaded.cases)
    for failure in failures:
        click.echo(visible(f"FAILED {failure.name}: expected {failure.expected}, got {failure.got}"))
    passed = len(loaded.cases) - len(failures)
    hash_ = loaded.rules.hash
    click.echo(f"{len(loaded.rules.rules)} rules, {passed} of {len(loaded.cases)} tests pass, policy hash {hash_}")
    sys.exit(1 if failures else 0)


@policy.command(name="explain")
@click.argument("case_name")
@_folder
@_config
def explain_case(case_name: str, folder: Path | None, config: Path | None) -> None:
    """Show what the rules in FOLDER (policies) are asked for the test CASE_NAME, and what they answer.

    Write the call that you want explained as a case into tests.toml; it stays as a test.
    """
    loaded = _loaded(folder, config)
    case = next((case for case in loaded.cases if case.name == case_name), None)
    if case is None:
        raise CannotError("\n  ".join((f"no case has the name {case_name!r}; there are:", *_names(loaded.cases))))
    found = explain(loaded.rules, case.caller, case.ask, case.facts)
    click.echo(json.dumps(asdict(found), indent=2, default=str))


def _names(cases: tuple[Case, ...]) -> list[str]:
    return [case.name for case in cases]


@policy.command()
@_config
def schema(config: Path | None) -> None:
    """Print the Cedar schema that rules are validated against."""
    _, inputs = _chosen(None, config)
    click.echo(CedarPolicy.compile((), inputs).schema_text)
