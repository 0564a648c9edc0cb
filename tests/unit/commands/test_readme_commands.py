"""The checker of the README finds what is wrong with one."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "readme_commands.py"

PYTHON = "```python\nfrom agent.client import GatewayClient\n{}\n```\n"
INSIDE = "async with GatewayClient('u') as gateway:\n    await gateway.{}"


@pytest.fixture(scope="module")
def checker():
    spec = importlib.util.spec_from_file_location("readme_commands", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def faults(checker, folder, readme):
    found = []
    for what, check in [*checker.commands(readme, checker.Folder(folder)), *checker.examples(readme)]:
        try:
            check()
        except checker.CommandFailedError as error:
            found.append((what, str(error)))
    return found


@pytest.mark.parametrize(
    "readme, told",
    [
        ("```sh\nrm -rf /\n```\n", "tests/readme_commands.py does not know how to run 'rm -rf /': teach it"),
        ("```sh\n./just fly\n```\n", "the justfile has no recipe 'fly': it has bench, bootstrap, canary, check"),
        ("Say `./just fly --high`.", "the justfile has no recipe 'fly'"),
        ("Say `gateway audit verfy`.", "'gateway audit verfy': there is no command 'verfy'"),
        ("```sh\ngateway check nowhere.toml  # why\n```\n", "exit code 2: Error: nowhere.toml cannot be used:"),
        (
            "```sh\ngateway serve --config policies/tests.toml\n```\n",
            "it does not listen: gateway: policies/tests.toml",
        ),
        ("```sh\ngateway policy explain --hlp\n```\n", "tests/readme_commands.py does not know how to run"),
        ("```python\nawait x(\n```\n", "it is no Python: "),
        ("```python\nfrom agent.client import Nobody\n```\n", "it imports what is not there: "),
        ("```python\nfrom nowhere import x\n```\n", "it imports what is not there: "),
        ("```python\nprint(1)\n```\n", "nothing is known of print"),
        (PYTHON.format("GatewayClient(adress='x')"), "GatewayClient: missing a required argument: 'url'"),
        (PYTHON.format(INSIDE.format("fly()")), "nothing is known of gateway.fly"),
        (
            PYTHON.format(INSIDE.format("execute_tool('t', 'a', idempotency_key='k')")),
            "gateway.execute_tool: got an unexpected keyword argument 'idempotency_key'",
        ),
    ],
)
def test_a_readme_that_promises_too_much(checker, tmp_path, readme, told):
    ((_, found),) = faults(checker, tmp_path, readme)
    assert found.startswith(told)


def test_an_audit_of_a_ledger_that_a_gateway_made(checker, tmp_path):
    assert faults(checker, tmp_path, "```sh\ngateway audit verify gateway.db\n```\n") == []
    assert (tmp_path / "gateway.db").exists()
