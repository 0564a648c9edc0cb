"""The gateway to Cloud Run: `python -m deploy.deploy PROJECT REGION`. Callers move only after a call has passed.

Builds and pushes the image, checks, replaces the service while the revision that serves goes on serving, calls the new
one as an agent would, then sends all traffic to it and calls again. If that call fails, traffic goes back.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.arguments import add_place, place_of
from deploy.bootstrap import let_invoke
from deploy.faults import CommandError, DeployError
from deploy.live import Live, live, to_revisions
from deploy.manifest import Manifest
from deploy.manifest_rules import BY_DIGEST
from deploy.place import AGENT_ACCOUNT, CANDIDATE, SERVICE, Place
from deploy.preflight import preflight
from deploy.render import ALL_TO_LATEST, filled_in
from deploy.shell import LONG_SECONDS, Shell, say


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be deployed, and how far. Without an image one is built with `builder` from the Containerfile."""

    manifest: Path
    image: str = ""
    builder: str = "docker"
    base: str = ""
    """The base image to build on, by digest; the Containerfile's own without."""
    stop_before_traffic: bool = False


def deploy(shell: Shell, place: Place, wish: Wish) -> None:
    """Deploy the gateway. Raises DeployError; then the revision that served before still serves, or serves again."""
    manifest = Manifest.of(filled_in(wish.manifest, place, IMAGE=wish.image or place.unbuilt))
    preflight(shell, place, manifest)
    before = live(shell, place)
    if shell.dry:
        shell.tell(
            "# if there is none yet: the new revision gets all calls at once, is called once, and no traffic moves"
        )
    if wish.stop_before_traffic and (before is None or not before.traffic):
        raise DeployError("--no-traffic: nothing serves yet, so leave it out: the first revision has all traffic")
    image = wish.image or built(shell, place, wish)
    text = filled_in(wish.manifest, place, IMAGE=image, TRAFFIC=_traffic(before))
    replace(shell, place, text)
    let_invoke(shell, place)
    now = live(shell, place)
    if now is None:
        raise DeployError(f"{SERVICE} is gone: somebody deleted it meanwhile")
    if before is None or not before.traffic:
        # The first revision of all has all traffic, and none to go back to.
        call_as_agent(shell, place, now.url, manifest.audience or now.url)
    else:
        try_aside(shell, place, now, manifest.audience or now.url)
        if not wish.stop_before_traffic:
            move(shell, place, before, now, manifest.audience or now.url)
    if not shell.dry:
        waits = ": it waits for `just canary PERCENT`" if wish.stop_before_traffic else ""
        shell.tell(f"{now.newest} is ready at {now.url}{waits}")


def built(shell: Shell, place: Place, wish: Wish) -> str:
    """Build the image, push it, and return its name by digest."""
    if not wish.base:
        shell.tell("warning: without --base IMAGE@sha256:... the image stands on what its base is called today")
    base = ["--build-arg", f"BASE={wish.base}"] if wish.base else []
    builder = wish.builder
    shell.do(["gcloud", "auth", "configure-docker", place.registry, "--quiet"])
    shell.do([builder, "build", "--file", "Containerfile", *base, "--tag", place.image, "."], seconds=LONG_SECONDS)
    shell.do([builder, "push", place.image], seconds=LONG_SECONDS)
    name = shell.do([builder, "inspect", "--format", "{{index .RepoDigests 0}}", place.image]).strip()
    if shell.dry:
        return f"{place.image.rpartition(':')[0]}@sha256:DIGEST"
    if not BY_DIGEST.fullmatch(name):
        raise DeployError(f"{builder} knows no digest of {place.image}: it says {name!r}")
    return name


def replace(shell: Shell, place: Place, text: str) -> None:
    """Send a manifest, and wait until its revision is ready. Raises CommandError if it never is."""
    if shell.dry:
        shell.tell("# the manifest, without its comments:")
        for line in text.splitlines():
            if line and not line.lstrip().startswith("#"):
                shell.tell(f"#   {line}")
    shell.do(
        place.run("services", "replace", "-", "--format=none"), given=text, reads="the manifest", seconds=LONG_SECONDS
    )


def call_as_agent(shell: Shell, place: Place, url: str, audience: str) -> None:
    """Make one call with the agents' identity. Raises CommandError if it does not pass."""
    account = f"--impersonate-service-account={place.email(AGENT_ACCOUNT)}"
    words = ("auth", "print-identity-token", account, f"--audiences={audience}", "--include-email", "--quiet")
    token = shell.do(["gcloud", *words])
    shell.do(
        [sys.executable, "-m", "deploy.smoke", url, f"--audience={audience}"],
        given=token,
        reads="the token",
        seconds=150.0,
    )


def _traffic(before: Live | None) -> str:
    """Who serves while the new revision is tried: those who serve now."""
    if before is None or not before.traffic:
        return ALL_TO_LATEST
    pinned = (f"{{revisionName: {name}, percent: {percent}}}" for name, percent in before.traffic.items())
    return f"[{', '.join(pinned)}, {{latestRevision: true, percent: 0, tag: {CANDIDATE}}}]"


def try_aside(shell: Shell, place: Place, now: Live, audience: str) -> None:
    """Call the new revision under its tag. Raises DeployError, with the tag taken off, if that does not pass."""
    forget = place.run("services", "update-traffic", SERVICE, f"--remove-tags={CANDIDATE}", "--format=none")
    try:
        call_as_agent(shell, place, now.candidate_url, audience)
    except CommandError as error:
        shell.do(forget)
        raise DeployError(f"{now.newest} got no traffic: {error}") from error
    shell.would("if that call does not pass, the one command that still runs", forget)


def move(shell: Shell, place: Place, before: Live, now: Live, audience: str) -> None:
    """Send all calls to the new revision, and call it again. Raises DeployError, with traffic put back, if not."""
    back = to_revisions(place, before.traffic)
    try:
        shell.do(to_revisions(place, {now.newest: 100}))
        call_as_agent(shell, place, now.url, audience)
    except CommandError as error:
        shell.do(back)
        raise DeployError(f"traffic is back where it was: {error}") from error
    shell.would("if one of these two fails", back)


def main(words: Sequence[str] | None = None) -> int:
    """The command line. Exit code 1 for a deployment that did not succeed."""
    parser = argparse.ArgumentParser(prog="python -m deploy.deploy", description=__doc__)
    add_place(parser)
    parser.add_argument("--manifest", type=Path, default=Path("service.yaml"), help="default: service.yaml")
    parser.add_argument("--image", default="", help="deploy this one, by digest, instead of building")
    parser.add_argument("--builder", default="docker", choices=("docker", "podman"), help="default: docker")
    parser.add_argument("--base", default="", metavar="IMAGE@sha256:...", help="the image to build on")
    parser.add_argument("--no-traffic", action="store_true", help="stop when the new revision has passed its call")
    given = parser.parse_intermixed_args(words)
    wish = Wish(
        manifest=given.manifest,
        image=given.image,
        builder=given.builder,
        base=given.base,
        stop_before_traffic=given.no_traffic,
    )
    try:
        place = place_of(given)
        deploy(Shell(dry=given.dry_run, tell=say), place, wish)
    except DeployError as error:
        parser.exit(1, f"deploy: {error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
