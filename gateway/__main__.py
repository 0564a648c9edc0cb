"""The command line: `gateway serve`, `gateway check`, `gateway policy`, `gateway audit`, and what others plug in.

`serve` is looked for first and imports nothing that the others need: how fast a gateway starts is how long a caller
waits when Cloud Run starts one.
"""

import sys


def main() -> None:
    """Run the command that the arguments name."""
    if sys.argv[1:2] == ["serve"]:
        from gateway.commands.serve import serve  # noqa: PLC0415 - see above

        raise SystemExit(serve(sys.argv[2:]))
    from gateway.commands.line import commands  # noqa: PLC0415

    commands(prog_name="gateway")


if __name__ == "__main__":
    main()
