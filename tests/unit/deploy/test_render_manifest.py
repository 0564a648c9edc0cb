"""The one substitution, and the command that shows it."""

import pytest
from told_commands import PLACE

from deploy.faults import DeployError
from deploy.render import filled_in, main, names, render


def test_names_become_values():
    assert render("a: ${A}-${B} $$5", {"A": "x", "B": "y/z@sha256:0"}) == "a: x-y/z@sha256:0 $5"
    assert names("${A} ${B} ${A}") == {"A", "B"}


@pytest.mark.parametrize(
    "text, values, said",
    [
        ("${A} ${B}", {"A": "x"}, "asks for B"),
        ("${A}", {"A": "x", "B": "y"}, "does not ask for B"),
        ("$ {A}", {}, "begins no"),
        ("${A}", {"A": "x y"}, "cannot stand"),
        ("${A}", {"A": "x\nb: c"}, "cannot stand"),
        ("${A}", {"A": '"x"'}, "cannot stand"),
        ("${A}", {"A": ""}, "cannot stand"),
        ("${A}", {"A": "[x]"}, "cannot stand"),
        ("${TRAFFIC}", {"TRAFFIC": "[x]\nevil: true"}, "cannot stand"),
    ],
)
def test_anything_else_is_refused(text, values, said):
    with pytest.raises(DeployError, match=said):
        render(text, values)


def test_the_command_prints_a_manifest_and_sends_traffic_to_the_latest_revision(tmp_path, capsys):
    path = tmp_path / "m.yaml"
    path.write_text("a: ${A}\ntraffic: ${TRAFFIC}\n")
    assert main([str(path), "A=x"]) == 0
    assert capsys.readouterr().out == "a: x\ntraffic: [{latestRevision: true, percent: 100}]\n"


@pytest.mark.parametrize("words", [["A"], [], ["A=x", "B=y"]])
def test_the_command_says_what_is_missing(tmp_path, capsys, words):
    path = tmp_path / "m.yaml"
    path.write_text("a: ${A}\n")
    with pytest.raises(SystemExit) as ended:
        main([str(path), *words])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("render: ")


def test_a_manifest_that_is_not_there(tmp_path):
    with pytest.raises(DeployError, match="cannot be read"):
        filled_in(tmp_path / "none.yaml", PLACE)
