"""Takes what no loader reads off the extension modules in a folder: symbols and debugging notes, most of some of them.

    python stripped.py FOLDER

A shared library is loaded by its program headers (elf(5)); what lies behind the last byte that one of them names is for
linkers and debuggers. This cuts it off, and the table of sections with it, as `strip` would if the base image had it.
"""

import struct
import sys
from pathlib import Path
from typing import Final

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_ELF64_LITTLE: Final = b"\x7fELF\x02\x01"
_SHARED: Final = 3


def stripped(library: bytes) -> bytes:
    """The part of a shared library that is loaded. ValueError for what is no whole 64-bit one."""
    if len(library) < _HEADER.size or not library.startswith(_ELF64_LITTLE):
        raise ValueError("it is no 64-bit ELF file")
    head = list(_HEADER.unpack_from(library))
    kind, offset, size, count = head[1], head[5], head[9], head[10]
    if kind != _SHARED or size != _SEGMENT.size or offset + size * count > len(library):
        raise ValueError("it is no shared library")
    segments = [_SEGMENT.unpack_from(library, offset + size * place) for place in range(count)]
    end = max([offset + size * count, *(begin + length for _, _, begin, _, _, length, _, _ in segments)])
    if end > len(library):
        raise ValueError("its end is missing")
    head[6] = head[12] = head[13] = 0  # where its sections are described, how many, and which has their names
    return _HEADER.pack(*head) + library[_HEADER.size : end]


def main(arguments: list[str]) -> int:
    """Strip every extension module below a folder; exit code 2 with a sentence for one that cannot be."""
    saved = 0
    for path in sorted(Path(arguments[0]).rglob("*.so*")):
        library = path.read_bytes()
        try:
            kept = stripped(library)
        except ValueError as error:
            sys.stderr.write(f"stripped: {path}: {error}\n")
            return 2
        path.write_bytes(kept)
        saved += len(library) - len(kept)
    sys.stdout.write(f"stripped: {saved / 1e6:.1f} MB less\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
