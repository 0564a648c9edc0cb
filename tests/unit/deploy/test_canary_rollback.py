"""Traffic by percent, and the way back."""

import pytest
from told_commands import PLACE, Told, service

from deploy import canary as canary_command
from deploy import rollback as rollback_command
from deploy.canary import canary
from deploy.faults import CommandError, DeployError
from deploy.rollback import rollback


def revisions(*names, lame=()):
    """Revisions as gcloud lists them, the oldest first; the order must not matter."""
    return [
        {
            "metadata": {"name": name, "creationTimestamp": f"2026-11-23T00:00:0{age}.000000Z"},
            "status": {"conditions": [{"type": "Ready", "status": "False" if name in lame else "True"}]},
        }
        for age, name in enumerate(names)
    ]


def moved(told):
    (place,) = told.where("update-traffic")
    return told.commands[place].split()[5]


@pytest.mark.parametrize(
    "traffic, percent, sent",
    [
        ({"r1": 100}, 10, "r2=10,r1=90"),
        ({"r1": 90, "r2": 10}, 50, "r2=50,r1=50"),
        ({"r0": 20, "r1": 70, "r2": 10}, 25, "r2=25,r1=75"),
        ({"r1": 90, "r2": 10}, 100, "r2=100"),
        ({"r1": 90, "r2": 10}, 0, "r1=100"),
    ],
)
def test_a_canary_shares_calls_with_the_revision_that_serves(traffic, percent, sent):
    told = Told(("services describe", service("r2", traffic)))
    canary(told.shell, PLACE, percent)
    assert moved(told) == f"--to-revisions={sent}"


def test_a_canary_needs_two_revisions():
    with pytest.raises(DeployError, match="r2 serves alone"):
        canary(Told(("describe", service("r2", {"r2": 100}))).shell, PLACE, 10)
    with pytest.raises(DeployError, match="there is no gateway-service yet"):
        canary(Told(("describe", "ERROR: NOT_FOUND")).shell, PLACE, 10)
    with pytest.raises(CommandError, match="PERMISSION_DENIED"):
        canary(Told(("describe", "ERROR: PERMISSION_DENIED")).shell, PLACE, 10)


@pytest.mark.parametrize("percent", ["-1", "101", "ten", "1.5", "٣"])
def test_what_is_no_percentage(percent, capsys):
    with pytest.raises(SystemExit) as ended:
        canary_command.main(["--", percent, PLACE.project, PLACE.region])
    assert ended.value.code == 2
    assert "whole number from 0 to 100" in capsys.readouterr().err


@pytest.mark.parametrize(
    "traffic, lame, target",
    [
        ({"r3": 100}, (), "r2"),
        ({"r3": 100}, ("r2",), "r1"),
        ({"r2": 100}, (), "r1"),
        ({"r3": 10, "r1": 90}, (), "r1"),
        ({"r3": 50, "r2": 50}, (), "r2"),
    ],
)
def test_the_way_back_is_the_revision_before_that_is_ready(traffic, lame, target):
    told = Told(
        ("services describe", service("r3", traffic)), ("revisions list", revisions("r1", "r2", "r3", lame=lame))
    )
    rollback(told.shell, PLACE)
    assert moved(told) == f"--to-revisions={target}=100"


def test_a_named_revision_must_be_ready():
    told = Told(("services describe", service("r3", {"r3": 100})), ("revisions list", revisions("r1", "r2", "r3")))
    rollback(told.shell, PLACE, "r1")
    assert moved(told) == "--to-revisions=r1=100"
    with pytest.raises(DeployError, match="r9 is no revision that is ready: there are r3, r2, r1"):
        rollback(told.shell, PLACE, "r9")


def test_without_an_older_revision_nothing_moves():
    told = Told(("services describe", service("r1", {"r1": 100})), ("revisions list", revisions("r1")))
    with pytest.raises(DeployError, match="no older revision"):
        rollback(told.shell, PLACE)
    assert told.where("update-traffic") == []


def test_dry_runs_print_what_they_would_do(capsys):
    assert canary_command.main(["10", PLACE.project, "--dry-run", PLACE.region]) == 0
    assert "--to-revisions=NEWEST-REVISION=10,REVISION-THAT-SERVES=90" in capsys.readouterr().out
    assert rollback_command.main([PLACE.project, PLACE.region, "--dry-run"]) == 0
    assert "--to-revisions=REVISION-BEFORE=100" in capsys.readouterr().out
