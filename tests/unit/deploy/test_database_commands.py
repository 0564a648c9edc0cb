"""A database for the ledger: made in order, never public, and its password nowhere but in its secret."""

import json
from itertools import count

import pytest
from told_commands import GATEWAY, PLACE, Told

from deploy.bootstrap import bootstrap
from deploy.database import let_sign_in, make_network, private_address
from deploy.faults import DeployError

PRIVATE = {"ipAddresses": [{"type": "PRIVATE", "ipAddress": "10.20.0.3"}]}
ADDRESS = ("sql instances describe", PRIVATE)


def test_everything_is_made_before_it_is_used():
    told = Told(ADDRESS)
    bootstrap(told.shell, PLACE, ("gateway-config",), database=True)
    order = [
        ("networks", "create"),
        ("subnets", "create"),
        ("addresses", "create"),
        ("vpc-peerings", "connect"),
        ("instances", "create"),
        ("databases", "create"),
        ("users", "create"),
        ("instances", "describe"),
        ("versions", "add"),
    ]
    places = [told.where(*words)[0] for words in order]
    assert places == sorted(places)
    (instance,) = (told.commands[place] for place in told.where("instances", "create"))
    assert "--no-assign-ip" in instance
    assert "--ssl-mode=ENCRYPTED_ONLY" in instance
    grants = [told.commands[place] for place in told.where("secrets", "add-iam-policy-binding")]
    assert sum(f"gateway-database-url --member={GATEWAY}" in grant for grant in grants) == 1


def test_the_password_is_read_and_never_written_in_a_command_or_shown():
    told = Told(ADDRESS)
    numbers = count()
    let_sign_in(told.shell, PLACE, lambda: f"pass{next(numbers)}word")
    assert json.loads(told.inputs[told.where("users", "create")[0]]) == {"--password": "pass0word"}
    assert told.inputs[told.where("versions", "add")[0]] == (
        "postgresql://gateway:pass0word@10.20.0.3:5432/gateway?sslmode=require"
    )
    assert "pass0word" not in " ".join([*told.commands, *told.lines])


def test_a_password_is_long_and_another_each_time():
    passwords = set()
    for _ in range(3):
        told = Told(ADDRESS)
        let_sign_in(told.shell, PLACE)
        passwords.add(json.loads(told.inputs[told.where("users", "create")[0]])["--password"])
    assert len(passwords) == 3
    assert {len(password) for password in passwords} == {48}


def test_what_is_there_stays_as_it_is():
    told = Told(("secrets versions list", [{"name": "1"}]), ("vpc-peerings list", [{"network": "n"}]))
    let_sign_in(told.shell, PLACE)
    make_network(told.shell, PLACE)
    for words in (("users", "create"), ("users", "set-password"), ("versions", "add"), ("vpc-peerings", "connect")):
        assert told.where(*words) == []


@pytest.mark.parametrize(
    "addresses",
    [[], [{"type": "PRIMARY", "ipAddress": "8.8.8.8"}], [*PRIVATE["ipAddresses"], {"type": "PRIMARY"}], None],
)
def test_a_database_that_can_be_reached_from_outside_is_not_used(addresses):
    with pytest.raises(DeployError, match="one private address and no public one"):
        private_address({"ipAddresses": addresses})
