"""The agent to Cloud Run: `python -m deploy.agent PROJECT REGION --image IMAGE`, once the gateway serves."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.arguments import add_place, place_of
from deploy.deploy import replace
from deploy.faults import DeployError, RefusedError
from deploy.live import live
from deploy.manifest import Manifest
from deploy.manifest_rules import Finding, annotation_type_findings
from deploy.place import AGENT_ACCOUNT, SERVICE, Place
from deploy.render import filled_in
from deploy.shell import Shell, say


def deploy_agent(shell: Shell, place: Place, manifest: Path, image: str) -> None:
    """Deploy the agent's service beside the gateway's. Raises DeployError."""
    gateway = live(shell, place)
    if gateway is None:
        raise DeployError(f"there is no {SERVICE} yet: run `just deploy` first, the agent needs its address")
    text = filled_in(manifest, place, IMAGE=image, GATEWAY_URL=gateway.url)
    if findings := [finding.sentence for finding in agent_findings(Manifest.of(text), place)]:
        raise RefusedError(findings)
    replace(shell, place, text)


def agent_findings(manifest: Manifest, place: Place) -> Iterator[Finding]:
    """What must not be deployed as an agent: another account than the agents', and anything worth stealing."""
    yield from annotation_type_findings(manifest)
    if manifest.account != place.email(AGENT_ACCOUNT):
        yield Finding(
            sentence=f"serviceAccountName: write {place.email(AGENT_ACCOUNT)}, which may call the gateway only"
        )
    for secret in manifest.secrets:
        yield Finding(sentence=f"secret {secret.name}: take it out: an agent holds nothing worth stealing")


def main(words: Sequence[str] | None = None) -> int:
    """The command line. Exit code 1 if the agent was not deployed."""
    parser = argparse.ArgumentParser(prog="python -m deploy.agent", description=__doc__)
    add_place(parser)
    parser.add_argument("--image", required=True, help="the gateway's image: the agent is in it too")
    parser.add_argument("--manifest", type=Path, default=Path("deploy/agent.yaml"), help="default: deploy/agent.yaml")
    given = parser.parse_intermixed_args(words)
    try:
        place = place_of(given)
        deploy_agent(Shell(dry=given.dry_run, tell=say), place, given.manifest, given.image)
    except DeployError as error:
        parser.exit(1, f"agent: {error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
