"""Commands, shown before they run. A dry shell shows them only."""

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from deploy.faults import CommandError

SECONDS: Final = 120.0
LONG_SECONDS: Final = 1200.0
"""For a build, a push, and a revision that starts."""

_TRIES: Final = 6
_PAUSE_SECONDS: Final = 5.0
_SAID_MAX: Final = 2_000

Run: TypeAlias = Callable[[Sequence[str], str, float], str]
"""Runs a command: its words, its input, and the seconds that it may take."""


class Shell:
    """Runs commands for their effect or for their answer; `dry` runs none.

    Raises CommandError for a command that fails, takes too long or is not installed.
    """

    def __init__(
        self,
        *,
        dry: bool,
        tell: Callable[[str], None],
        run: Run | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.dry = dry
        self.tell = tell
        self._run = run or run_command
        self._pause = pause

    def do(self, command: Sequence[str], *, given: str = "", reads: str = "", seconds: float = SECONDS) -> str:
        """Run a command with `given` as its input, and return what it wrote. `reads` says what the input is."""
        self.tell(f"$ {shlex.join(command)}" + (f"  # reads {reads}" if reads else ""))
        return "" if self.dry else self._run(command, given, seconds)

    def would(self, when: str, command: Sequence[str]) -> None:
        """In a dry shell, show a command that runs only in one case."""
        if self.dry:
            self.tell(f"# {when}: {shlex.join(command)}")

    def create(self, command: Sequence[str], *, given: str = "", reads: str = "", seconds: float = SECONDS) -> None:
        """Run a command that makes something, and be content if it is there already."""
        try:
            self.do(command, given=given, reads=reads, seconds=seconds)
        except CommandError as error:
            if not error.exists_already:
                raise
            self.tell("  (is there already)")

    def grant(self, command: Sequence[str]) -> None:
        """Run a command that names an account which may be too new to be known everywhere; tried for 25 s."""
        for attempt in range(1, _TRIES + 1):
            try:
                self.do(command)
            except CommandError as error:
                if not error.too_early or attempt == _TRIES:
                    raise
                self.tell("  (the account is not known there yet)")
                self._pause(_PAUSE_SECONDS)
            else:
                return

    def ask(self, command: Sequence[str], otherwise: object) -> object:
        """Run a command that answers in JSON; a dry shell answers `otherwise`."""
        said = self.do([*command, "--format=json"])
        if self.dry:
            return otherwise
        try:
            return json.loads(said or "null")
        except ValueError as error:
            raise CommandError(shlex.join(command), f"its answer is no JSON: {error}") from error


def run_command(command: Sequence[str], given: str, seconds: float) -> str:
    """What a command writes for this input. Raises CommandError."""
    program = shutil.which(command[0])
    if program is None:
        raise CommandError(shlex.join(command), f"{command[0]} is not installed here, or is not on the PATH")
    try:
        done = subprocess.run(  # noqa: S603 - no shell; the words are ours, and names were checked by Place
            [program, *command[1:]], input=given, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise CommandError(shlex.join(command), f"it did not end within {seconds:g} s") from None
    if done.returncode:
        raise CommandError(shlex.join(command), _reason(done.stderr, done.returncode))
    return done.stdout


def _reason(written: str, code: int) -> str:
    """What a command says about its failure: from its first line of error on."""
    lines = written.strip().splitlines()
    start = next((index for index, line in enumerate(lines) if line.startswith("ERROR:")), 0)
    return "\n".join(lines[start:])[-_SAID_MAX:] or f"it said nothing, and ended with {code}"


def say(line: str) -> None:
    """Write a line for the operator."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
