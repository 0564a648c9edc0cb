"""What a project needs once: `python -m deploy.bootstrap PROJECT REGION`. To run it again changes nothing.

APIs, the image repository, the two service accounts, the secrets that the manifest refers to (empty), and the least
grants: the gateway may use models and read its own secrets; agents may call the gateway, and nothing else.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from deploy.arguments import add_place, place_of
from deploy.database import let_sign_in, make_instance, make_network
from deploy.faults import CommandError, DeployError
from deploy.manifest import Manifest
from deploy.place import (
    AGENT_ACCOUNT,
    APIS,
    DATABASE_SECRET,
    GATEWAY_ACCOUNT,
    INVOKER,
    MODEL_USER,
    REPOSITORY,
    SECRET_READER,
    SERVICE,
    Place,
)
from deploy.render import filled_in
from deploy.shell import Shell, say

_ACCOUNTS: Final = {GATEWAY_ACCOUNT: "Agentic Gateway", AGENT_ACCOUNT: "Agents behind the gateway"}


def bootstrap(
    shell: Shell, place: Place, secrets: Iterable[str], operator: str = "", *, database: bool = False
) -> None:
    """Make what is missing. Raises DeployError.

    `operator` is the member that deploys: user:ann@example.com. `database` makes one for the ledger, with its secret.
    """
    shell.do(place.gcloud("services", "enable", *APIS))
    shell.create(
        place.gcloud(
            "artifacts",
            "repositories",
            "create",
            REPOSITORY,
            "--repository-format=docker",
            f"--location={place.region}",
        )
    )
    for account, name in _ACCOUNTS.items():
        shell.create(place.gcloud("iam", "service-accounts", "create", account, f"--display-name={name}"))
    gateway = place.member(GATEWAY_ACCOUNT)
    words = ("projects", "add-iam-policy-binding", place.project)
    shell.grant(_quiet(place.gcloud(*words, f"--member={gateway}", f"--role={MODEL_USER}", "--condition=None")))
    for secret in dict.fromkeys((*secrets, *((DATABASE_SECRET,) if database else ()))):
        shell.create(place.gcloud("secrets", "create", secret, "--replication-policy=automatic"))
        words = ("secrets", "add-iam-policy-binding", secret)
        shell.grant(_quiet(place.gcloud(*words, f"--member={gateway}", f"--role={SECRET_READER}")))
    if database:
        make_network(shell, place)
        make_instance(shell, place)
        let_sign_in(shell, place)
    if operator:
        _let_deploy(shell, place, operator)
    _let_invoke_if_there(shell, place)


def let_invoke(shell: Shell, place: Place) -> None:
    """Grant the agents their one permission. Raises CommandError, also where there is no service yet."""
    shell.grant(invoke_command(place))


def invoke_command(place: Place) -> list[str]:
    """The command that lets agents call the gateway."""
    words = ("services", "add-iam-policy-binding", SERVICE)
    return _quiet(place.run(*words, f"--member={place.member(AGENT_ACCOUNT)}", f"--role={INVOKER}"))


def _let_invoke_if_there(shell: Shell, place: Place) -> None:
    try:
        let_invoke(shell, place)
    except CommandError as error:
        if not error.not_found:
            raise
        shell.tell(f"  (there is no {SERVICE} yet: the first `just deploy` makes this grant)")


def _let_deploy(shell: Shell, place: Place, operator: str) -> None:
    """Who deploys acts as both accounts, and makes an agent's token for the smoke call."""
    grants = (
        (GATEWAY_ACCOUNT, "roles/iam.serviceAccountUser"),
        (AGENT_ACCOUNT, "roles/iam.serviceAccountUser"),
        (AGENT_ACCOUNT, "roles/iam.serviceAccountTokenCreator"),
    )
    for account, role in grants:
        words = ("iam", "service-accounts", "add-iam-policy-binding", place.email(account))
        shell.grant(_quiet(place.gcloud(*words, f"--member={operator}", f"--role={role}")))


def _quiet(command: list[str]) -> list[str]:
    """Without the whole policy as an answer."""
    return [*command, "--format=none"]


def main(words: Sequence[str] | None = None) -> int:
    """The command line. Exit code 1 for a command that failed, 2 for arguments that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m deploy.bootstrap", description=__doc__)
    add_place(parser)
    parser.add_argument("--manifest", type=Path, default=Path("service.yaml"), help="default: service.yaml")
    parser.add_argument("--operator", default="", help="who deploys, such as user:ann@example.com: may act as both")
    parser.add_argument("--database", action="store_true", help="make a Cloud SQL database for the ledger, too")
    given = parser.parse_intermixed_args(words)
    try:
        place = place_of(given)
        manifest = Manifest.of(filled_in(given.manifest, place, IMAGE=place.unbuilt))
        secrets = list(dict.fromkeys(secret.name for secret in manifest.secrets))
        bootstrap(Shell(dry=given.dry_run, tell=say), place, secrets, given.operator, database=given.database)
    except CommandError as error:
        parser.exit(1, f"bootstrap: {error}\n")
    except DeployError as error:
        parser.exit(2, f"bootstrap: {error}\n")
    say("Put a value into each secret that has none:")
    for secret in (name for name in secrets if name != DATABASE_SECRET):
        say(f"  gcloud secrets versions add {secret} --data-file=FILE --project={place.project}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
