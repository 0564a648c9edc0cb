"""`gateway audit`: verify a record offline, and export it."""

import json
import sys
from pathlib import Path

import click

from gateway.audit.sources import UnreadableAuditError, export
from gateway.audit.verify import Report, verify

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def audit() -> None:
    """Verify and export the record."""


@audit.command(name="verify")
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object and nothing else.")
def verify_file(file: Path, *, as_json: bool) -> None:
    """Verify FILE, a ledger or an export, with no gateway and no trust in one.

    Exit code 0: every record is as it was written, in its place, none missing between two others, and every intent
    has its outcome or is named as open. 1: the first bad record is named. 2: FILE cannot be read.
    """
    progress = None if as_json else _progress
    try:
        report = verify(file, progress)
    except UnreadableAuditError as error:
        click.echo(f"gateway audit: {error}", err=True)
        sys.exit(2)
    if as_json:
        click.echo(json.dumps(_told(report)))
    else:
        _show(report)
    sys.exit(0 if report.ok else 1)


@audit.command(name="export")
@click.argument("file", type=FILE)
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
def export_file(file: Path, out: Path) -> None:
    """Write the records of the ledger FILE to OUT in the portable form; `verify` reads it too."""
    if out.exists():
        raise click.ClickException(f"{out} exists; name a new file")
    try:
        with out.open("xb") as target:
            count = export(file, target, _progress)
    except UnreadableAuditError as error:
        out.unlink()
        click.echo(f"gateway audit: {error}", err=True)
        sys.exit(2)
    click.echo(f"{count} records in {out}")


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{done} of {total} records", err=True, nl=done == total)


def _show(report: Report) -> None:
    for kind, count in report.kinds:
        click.echo(f"{kind:<10}{count:>10}")
    for boot in report.boots:
        ending = "closed" if boot.closed else "no closing record"
        click.echo(f"boot {boot.instance}/{boot.boot}: {boot.records} records, {ending}, head {boot.head.hex()}")
    if report.open_count:
        click.echo(f"open operations: {report.open_count}: {', '.join(report.open_operations[:10])}")
    for note in report.notes:
        click.echo(f"note: {note}")
    if report.bad is not None:
        bad = report.bad
        click.echo(f"BAD: record {bad.sequence} of {bad.instance}/{bad.boot}: {bad.problem}")
    click.echo(f"{'ok' if report.ok else 'NOT ok'}: {report.records} records verified")


def _told(report: Report) -> dict[str, object]:
    bad = report.bad
    return {
        "ok": report.ok,
        "records": report.records,
        "kinds": dict(report.kinds),
        "boots": [
            {
                "instance": boot.instance,
                "boot": boot.boot,
                "records": boot.records,
                "closed": boot.closed,
                "head": boot.head.hex(),
            }
            for boot in report.boots
        ],
        "bad": {"instance": bad.instance, "boot": bad.boot, "sequence": bad.sequence, "problem": bad.problem}
        if bad
        else None,
        "open_operations": list(report.open_operations),
        "open_count": report.open_count,
        "notes": list(report.notes),
    }
