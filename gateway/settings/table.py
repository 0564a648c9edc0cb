"""What every table of the configuration file is."""

from collections.abc import Iterator

import msgspec


class Table(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A table of the file: what it does not know is a fault."""

    def faults(self) -> Iterator[str]:
        """What is wrong with it in itself; every sentence begins with the field's name."""
        yield from ()
