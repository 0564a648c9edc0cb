"""The command line: `gateway serve`, what operators and auditors use, and what others plug in.

`serve` is looked for first and imports nothing that the others need: how fast a gateway starts is how long a caller
waits when Cloud Run starts one.
"""

import gc
import sys


def main() -> None:
    """Run the command that the arguments name."""
    if sys.argv[1:2] == ["serve"]:
        _serve(sys.argv[2:])
    from gateway.commands.line import commands  # noqa: PLC0415 - not for `serve`

    commands(prog_name="gateway")


def _serve(arguments: list[str]) -> None:
    """Ends the process."""
    # Nothing that is made while everything is imported is garbage; looking for some took a tenth of the time.
    gc.disable()
    # betterproto2 imports pydantic where it finds it, for a kind of message that is not ours: 25 ms.
    sys.modules.setdefault("pydantic", None)  # type: ignore[arg-type] # the import system reads None as absent
    try:
        from gateway.commands.serve import serve  # noqa: PLC0415 - see above

        raise SystemExit(serve(arguments))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
