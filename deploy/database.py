"""A database for the ledger: Cloud SQL for PostgreSQL by its private address. `bootstrap --database` makes it.

A network of its own, a range in it for Google's services, an instance without a public address, a database, a user.
The user's password is made here, is read by gcloud from its input, and stays in the secret `gateway-database-url`
alone. To run it again changes nothing: a secret that has a version says that the user is there.
"""

import argparse
import json
import secrets as chance
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from deploy.arguments import add_place, place_of
from deploy.faults import DeployError
from deploy.place import DATABASE_APIS, DATABASE_SECRET, NETWORK, Place
from deploy.shell import LONG_SECONDS, Shell, say

INSTANCE: Final = "agentic-gateway"
NAME: Final = "gateway"
"""The database's, and its user's."""
VERSION: Final = "POSTGRES_17"
TIER: Final = "db-custom-1-3840"
SUBNET_RANGE: Final = "10.8.0.0/26"
"""For the gateway's instances, about two addresses for each."""
SERVICES: Final = "agentic-gateway-services"
_PEERING: Final = "servicenetworking.googleapis.com"
_PREFIX: Final = 20
_DRY: Final = {"ipAddresses": [{"type": "PRIVATE", "ipAddress": "PRIVATE-ADDRESS"}]}


def make_network(shell: Shell, place: Place) -> None:
    """The network, its subnet, and the range in which Google's services get their addresses. Raises CommandError."""
    shell.do(place.gcloud("services", "enable", *DATABASE_APIS))
    shell.create(place.gcloud("compute", "networks", "create", NETWORK, "--subnet-mode=custom"))
    subnet = ("compute", "networks", "subnets", "create", NETWORK, f"--network={NETWORK}", f"--region={place.region}")
    shell.create(place.gcloud(*subnet, f"--range={SUBNET_RANGE}", "--enable-private-ip-google-access"))
    addresses = ("compute", "addresses", "create", SERVICES, "--global", "--purpose=VPC_PEERING")
    shell.create(place.gcloud(*addresses, f"--prefix-length={_PREFIX}", f"--network={NETWORK}"))
    peerings = ("services", "vpc-peerings")
    joined = shell.ask(place.gcloud(*peerings, "list", f"--network={NETWORK}", f"--service={_PEERING}"), [])
    if not joined:
        words = (*peerings, "connect", f"--service={_PEERING}", f"--ranges={SERVICES}", f"--network={NETWORK}")
        shell.do(place.gcloud(*words), seconds=LONG_SECONDS)


def make_instance(shell: Shell, place: Place) -> None:
    """The instance, encrypted connections only, and its database. Raises CommandError."""
    shell.create(
        place.gcloud(
            *("sql", "instances", "create", INSTANCE, f"--database-version={VERSION}", "--edition=enterprise"),
            *(f"--tier={TIER}", f"--region={place.region}", "--availability-type=regional"),
            *(f"--network=projects/{place.project}/global/networks/{NETWORK}", "--no-assign-ip"),
            *("--ssl-mode=ENCRYPTED_ONLY", "--storage-auto-increase", "--backup"),
            *("--enable-point-in-time-recovery", "--deletion-protection"),
        ),
        seconds=LONG_SECONDS,
    )
    shell.create(place.gcloud("sql", "databases", "create", NAME, f"--instance={INSTANCE}"))


def let_sign_in(shell: Shell, place: Place, password: Callable[[], str] = lambda: chance.token_hex(24)) -> None:
    """The user and the URL with its password, unless the secret has one. Raises DeployError."""
    words = ("secrets", "versions", "list", DATABASE_SECRET, "--filter=state=ENABLED", "--limit=1")
    if shell.ask(place.gcloud(*words), []):
        shell.tell(f"  ({DATABASE_SECRET} has a value: the user and its password stay as they are)")
    else:
        renew(shell, place, password())


def renew(shell: Shell, place: Place, secret: str) -> None:
    """Give the user this password, and the secret a version with it. Raises DeployError."""
    user = (NAME, f"--instance={INSTANCE}", "--flags-file=-")
    given, reads = json.dumps({"--password": secret}), "the new password"
    shell.create(place.gcloud("sql", "users", "create", *user), given=given, reads=reads)
    shell.do(place.gcloud("sql", "users", "set-password", *user), given=given, reads=reads)
    described = shell.ask(place.gcloud("sql", "instances", "describe", INSTANCE), _DRY)
    url = f"postgresql://{NAME}:{secret}@{private_address(described)}:5432/{NAME}?sslmode=require"
    add = ("secrets", "versions", "add", DATABASE_SECRET, "--data-file=-", "--format=none")
    shell.do(place.gcloud(*add), given=url, reads="the URL with the password")


def private_address(instance: object) -> str:
    """The one address of an instance, which must be a private one. Raises DeployError."""
    listed = instance.get("ipAddresses") if isinstance(instance, Mapping) else None
    addresses = [row for row in listed if isinstance(row, Mapping)] if isinstance(listed, list) else []
    private = [row.get("ipAddress") for row in addresses if row.get("type") == "PRIVATE"]
    if len(private) != 1 or any(row.get("type") == "PRIMARY" for row in addresses):
        raise DeployError(f"{INSTANCE} must have one private address and no public one: it says {addresses}")
    return str(private[0])


def main(words: Sequence[str] | None = None) -> int:
    """A new password for the database's user. Exit code 1 if it was not given one."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.database", description="Give the database's user a new password, and the secret its URL."
    )
    add_place(parser)
    given = parser.parse_intermixed_args(words)
    try:
        renew(Shell(dry=given.dry_run, tell=say), place_of(given), chance.token_hex(24))
    except DeployError as error:
        parser.exit(1, f"database: {error}\n")
    say(f"Write the new version of {DATABASE_SECRET} into service.yaml, and deploy.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
