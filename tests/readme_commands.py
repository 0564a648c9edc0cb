"""Runs what the README tells people to type, and checks its Python against the client that it shows.

    python tests/readme_commands.py

Commands run in a temporary folder, without a cloud and without a network. The recipes that CI runs by themselves are
only looked for. A command that is not known here is a fault: say below how it is run.
"""

import ast
import importlib
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
NOBODY: Final = "http://127.0.0.1:9"
LIMIT_S: Final = 60

_BLOCK: Final = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE: Final = re.compile(r"`((?:\./just|gateway) [^`]+)`")
_RECIPE: Final = re.compile(r"^@?(?P<name>[a-z][a-z-]*)[^:=\n]*:(?!=)", re.MULTILINE)


class CommandFailedError(Exception):
    """What the README says does not work; the sentence says what, and what was seen."""


def main() -> int:
    """Check everything; say each command and whether it works. 1 if any does not."""
    readme = (ROOT / "README.md").read_text()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="readme-") as folder:
        checks = [*commands(readme, Folder(Path(folder))), *examples(readme)]
        for what, check in checks:
            try:
                check()
            except CommandFailedError as error:
                failed += 1
                sys.stdout.write(f"FAILED  {what}\n        {error}\n")
            else:
                sys.stdout.write(f"ok      {what}\n")
    sys.stdout.write(f"README.md: {len(checks) - failed} of {len(checks)} work\n")
    return 1 if failed or not checks else 0


Check = tuple[str, Callable[[], None]]


class Folder:
    """Where a reader stands who has cloned the project, and has written a configuration of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.copytree(ROOT / "policies", path / "policies", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "docs", path / "docs")
        own = (path / "docs" / "gateway.example.toml").read_text().replace("../policies", "policies")
        for old, new in (
            ("# certs_url =", f'certs_url = "{NOBODY}/certs"\n#'),
            ("# endpoint =", f'endpoint = "{NOBODY}"\n#'),
            ("https://paper-api.alpaca.markets", NOBODY),
            ("https://data.alpaca.markets", NOBODY),
        ):
            if old not in own:
                raise CommandFailedError(f"docs/gateway.example.toml does not say {old!r} any more: say it here too")
            own = own.replace(old, new)
        (path / "gateway.toml").write_text(own)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "K_"))}
        self._environment = kept | {
            "PYTHONPATH": str(ROOT),
            "PORT": "0",
            "GATEWAY_HOST": "127.0.0.1",
            "GCE_METADATA_HOST": NOBODY.removeprefix("http://"),
            **{f"EXCHANGE_{name}": "x" * 32 for name in ("KEY_ID", "SECRET_KEY", "ORDER_KEY")},
        }

    def run(self, words: Sequence[str]) -> None:
        """Run a `gateway` command to its end, which must be a good one."""
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=self.path,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        if done.returncode:
            raise CommandFailedError(f"exit code {done.returncode}: {done.stdout.strip()}")

    def serve(self, words: Sequence[str]) -> None:
        """Start a server, wait until it listens, and end it."""
        ready, log = self.path / "ready.json", self.path / "serve.log"
        ready.unlink(missing_ok=True)
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *words, "--ready-file", str(ready)],
                cwd=self.path,
                env=self._environment,
                stdout=out,
                stderr=out,
            )
            try:
                _wait_until(lambda: ready.exists() or process.poll() is not None)
                if not ready.exists() or json.loads(ready.read_text())["pid"] != process.pid:
                    raise CommandFailedError(f"it does not listen: {log.read_text().strip()}")
                process.send_signal(signal.SIGTERM)
                if process.wait(LIMIT_S):
                    raise CommandFailedError(f"exit code {process.returncode}: {log.read_text().strip()}")
            finally:
                process.kill()
                process.wait()

    def audit(self, words: Sequence[str]) -> None:
        """Run an audit command on the ledger that a gateway leaves."""
        if not (self.path / words[-1]).exists():
            self.serve(("gateway", "serve", "--config", "gateway.toml"))
        self.run(words)


def commands(readme: str, folder: Folder) -> Iterator[Check]:
    """Every command of the fenced blocks, with how it is checked; those in the text must exist."""
    for block in _BLOCK.finditer(readme):
        if block["kind"] != "sh":
            continue
        for line in block["text"].splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield " ".join(words), _checked(words, folder)
    text = _BLOCK.sub("", readme)
    for command in sorted({match.group(1) for match in _INLINE.finditer(text)}):
        yield f"{command} (in the text)", _existing(command.split())


def _checked(words: list[str], folder: Folder) -> Callable[[], None]:
    match words:
        case ["./just", *_]:
            return _existing(words)
        case ["gateway", "serve", *_]:
            return lambda: folder.serve(words)
        case ["gateway", "audit", "verify" | "show", _]:
            return lambda: folder.audit(words)
        case ["gateway", "check", _] | ["gateway", "policy", "test", *_] | ["gateway", *_, "--help"]:
            return lambda: folder.run(words)
    return _unknown(words)


def _unknown(words: list[str]) -> Callable[[], None]:
    def fail() -> None:
        raise CommandFailedError(f"tests/readme_commands.py does not know how to run {' '.join(words)!r}: teach it")

    return fail


def _existing(words: list[str]) -> Callable[[], None]:
    """A recipe of the justfile, or a command of the gateway, that only has to be there."""

    def look() -> None:
        if words[0] == "./just":
            recipes = {match["name"] for match in _RECIPE.finditer((ROOT / "justfile").read_text())}
            if words[1] not in recipes or not os.access(ROOT / "just", os.X_OK):
                raise CommandFailedError(
                    f"the justfile has no recipe {words[1]!r}: it has {', '.join(sorted(recipes))}"
                )
            return
        _find_command(words)

    return look


def _find_command(words: list[str]) -> None:
    import click  # noqa: PLC0415 - only where the README names commands in its text

    from gateway.commands.line import commands as group  # noqa: PLC0415 - see above

    found: click.Command = group
    for word in words[1:]:
        if not isinstance(found, click.Group):
            return
        inner = found.get_command(click.Context(found), word)
        if inner is None:
            raise CommandFailedError(f"{' '.join(words)!r}: there is no command {word!r}")
        found = inner


def examples(readme: str) -> Iterator[Check]:
    """Every Python block: it must compile, its imports must work, and its calls must fit what they call."""
    for number, block in enumerate((block for block in _BLOCK.finditer(readme) if block["kind"] == "python"), 1):
        yield f"the Python example {number}", _fitting(block["text"])


def _fitting(text: str) -> Callable[[], None]:
    def look() -> None:
        try:
            tree = ast.parse(text)
            compile(text, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            raise CommandFailedError(f"it is no Python: {error}") from error
        known = _imported(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name):
                known[node.optional_vars.id] = _called(node.context_expr, known)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                _bind(node, known)

    return look


def _imported(tree: ast.Module) -> dict[str, object]:
    known: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                try:
                    known[name.asname or name.name] = getattr(importlib.import_module(node.module), name.name)
                except (ImportError, AttributeError) as error:
                    raise CommandFailedError(f"it imports what is not there: {error}") from error
    return known


def _called(node: ast.expr, known: dict[str, object]) -> object:
    """What a call calls: an imported name, or a method of an object that was made of one."""
    function = node.func if isinstance(node, ast.Call) else node
    try:
        match function:
            case ast.Name(id=name):
                return known[name]
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                return getattr(known[name], attribute)
    except (KeyError, AttributeError):
        pass
    raise CommandFailedError(f"nothing is known of {ast.unparse(function)}")


def _bind(node: ast.Call, known: dict[str, object]) -> None:
    called = _called(node, known)
    signature = inspect.signature(called)  # type: ignore[arg-type] # what is no callable raises TypeError below
    own = () if isinstance(called, type) else (None,)
    try:
        signature.bind(*own, *node.args, **{keyword.arg: None for keyword in node.keywords if keyword.arg})
    except TypeError as error:
        raise CommandFailedError(f"{ast.unparse(node.func)}: {error}") from error


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    raise SystemExit(main())
