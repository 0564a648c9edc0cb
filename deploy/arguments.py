"""The arguments that every command here has."""

import argparse

from deploy.faults import DeployError
from deploy.place import Place
from deploy.shell import say


def add_place(parser: argparse.ArgumentParser) -> None:
    """PROJECT, REGION and --dry-run. Only a dry run can do without the first two."""
    parser.add_argument("project", metavar="PROJECT", nargs="?", default="", help="the project's id")
    parser.add_argument("region", metavar="REGION", nargs="?", default="", help="such as us-central1")
    parser.add_argument("--dry-run", action="store_true", help="print every command, in order, and run none")


def place_of(given: argparse.Namespace) -> Place:
    """Where to deploy. Raises DeployError where that was not said; a dry run shows a place of no meaning."""
    if given.dry_run and not given.project:
        say("# without PROJECT and REGION, these stand for them: your-project, us-central1")
        return Place(project="your-project", region="us-central1")
    if not given.project or not given.region:
        raise DeployError("say where: give PROJECT and REGION, with just as PROJECT=... REGION=... just RECIPE")
    return Place(project=given.project, region=given.region)
