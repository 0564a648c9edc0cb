"""The command that writes `generated/` from the protos: message classes, codecs, service tables, descriptors.

`--check` writes nothing and tells whether `generated/` is what this command would write, byte for byte.
"""

import argparse
import difflib
import shutil
import sys
import tempfile
from pathlib import Path

from codegen import contract, modules, protoc
from codegen.refusals import refusals

HERE = Path(__file__).resolve().parent
MOST_LINES = 40
"""Of differences that `--check` shows."""


def main() -> int:
    """Exit code 0: written, or no difference. 1: refused, with sentences that say why; or `generated/` differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the output folder differs")
    parser.add_argument("--protos", type=Path, default=HERE, help="folder of the protos (default: this file's)")
    parser.add_argument("--out", type=Path, default=HERE.parent / "generated", help="folder to write")
    asked = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder).resolve() / "generated"
            generate(asked.protos.resolve(), fresh)
            return _check(fresh, asked.out) if asked.check else _replace(fresh, asked.out)
    except protoc.CompilerError as error:
        print(error, file=sys.stderr)
        return 1


def generate(protos: Path, out: Path) -> None:
    """Writes everything into a new folder. Raises CompilerError with sentences that say what to change."""
    files = protoc.descriptors(protos)
    sentences = refusals(files)
    if sentences:
        raise protoc.CompilerError("\n".join(sentences))
    out.mkdir()
    protoc.message_classes(protos, out)
    for package in contract.read(files):
        folder = out.joinpath(*package.name.split("."))
        if package.messages or package.enums:
            _write(folder / "codec.py", modules.codec_module(package))
            _write(folder / "json_codec.py", modules.json_codec_module(package))
        if package.methods:
            _write(folder / "services.py", modules.services_module(package))
    for runtime in sorted((HERE / "runtime").glob("*.py")):
        shutil.copyfile(runtime, out / runtime.name)
    (out / "descriptors.bin").write_bytes(files.SerializeToString(deterministic=True))


def _write(path: Path, source: str) -> None:
    path.write_bytes(protoc.formatted(source).encode())


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _check(fresh: Path, out: Path) -> int:
    wanted, found = _contents(fresh), _contents(out)
    lines = [line for name in sorted(wanted | found) for line in _difference(name, found.get(name), wanted.get(name))]
    if not lines:
        return 0
    print("\n".join(lines[:MOST_LINES]))
    if len(lines) > MOST_LINES:
        print(f"... and {len(lines) - MOST_LINES} more lines.")
    print(f"{out} is not what the protos say. Run: python protos/generate.py")
    return 1


def _difference(name: str, found: bytes | None, wanted: bytes | None) -> list[str]:
    """Nothing where the two are equal, else a line for the file and a few that differ."""
    if found == wanted:
        return []
    if found is None:
        return [f"{name}: missing"]
    if wanted is None:
        return [f"{name}: comes from no proto"]
    if name.endswith(".bin"):
        return [f"{name}: differs"]
    old, new = (text.decode(errors="replace").splitlines() for text in (found, wanted))
    diff = difflib.unified_diff(old, new, n=0, lineterm="")
    lines = [line for line in diff if not line.startswith(("---", "+++", "@@"))]
    return [f"{name}: {len(lines)} lines differ (-: is there, +: should be)", *(f"  {line}" for line in lines[:10])]


def _replace(fresh: Path, out: Path) -> int:
    """Touches only what differs, so that who imports from the folder meanwhile never finds it half empty."""
    wanted, found = _contents(fresh), _contents(out)
    if found and "wire_format.py" not in found:
        raise protoc.CompilerError(f"{out}: holds files that this command did not write; name another folder.")
    for name, content in wanted.items():
        if found.get(name) != content:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(content)
    for name in found.keys() - wanted.keys():
        (out / name).unlink()
    print(f"{out}: {len(wanted)} files, {sum(found.get(name) != wanted[name] for name in wanted)} of them new.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
