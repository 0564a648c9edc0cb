"""The checks before a deployment. `python -m deploy.preflight PROJECT REGION` runs them alone.

Exit code 1 if something must not be deployed, 2 for a command line or a manifest that cannot be used.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from deploy.arguments import add_place, place_of
from deploy.faults import DeployError, RefusedError
from deploy.manifest import Manifest
from deploy.manifest_rules import Finding, manifest_findings
from deploy.place import Place
from deploy.project_rules import project_findings
from deploy.render import filled_in
from deploy.shell import Shell, say


def preflight(shell: Shell, place: Place, manifest: Manifest) -> None:
    """Check the manifest, then the project. Raises RefusedError with everything that stands against it.

    What only speaks against it is told. The project is asked even if the manifest is refused: both lists together
    spare a second round. A dry shell refuses nothing, and tells what would be.
    """
    findings = [*manifest_findings(manifest, place), *project_findings(shell, place, manifest)]
    _tell_warnings(shell, findings)
    grave = [finding.sentence for finding in findings if finding.grave]
    if shell.dry:
        for sentence in grave:
            shell.tell(f"this would be refused: {sentence}")
    elif grave:
        raise RefusedError(grave)


def _tell_warnings(shell: Shell, findings: Iterable[Finding]) -> None:
    for finding in findings:
        if not finding.grave:
            shell.tell(f"warning: {finding.sentence}")


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.preflight", description=__doc__)
    add_place(parser)
    parser.add_argument("--manifest", type=Path, default=Path("service.yaml"), help="default: service.yaml")
    parser.add_argument("--image", default="", help="as it is to be deployed")
    given = parser.parse_intermixed_args(words)
    try:
        place = place_of(given)
        manifest = Manifest.of(filled_in(given.manifest, place, IMAGE=given.image or place.unbuilt))
        preflight(Shell(dry=given.dry_run, tell=say), place, manifest)
    except RefusedError as error:
        parser.exit(1, f"preflight: {error}\n")
    except DeployError as error:
        parser.exit(2, f"preflight: {error}\n")
    if not given.dry_run:
        say("nothing stands against it")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
