"""What the writers of source code share: wire types, ranges, and the names of things across packages."""

from collections.abc import Iterable

from codegen.contract import TypeName

WIRE_TYPES = {
    **dict.fromkeys(("int32", "int64", "uint32", "uint64", "sint32", "sint64", "bool", "enum"), 0),
    **dict.fromkeys(("double", "fixed64", "sfixed64"), 1),
    **dict.fromkeys(("string", "bytes", "message", "map"), 2),
    **dict.fromkeys(("float", "fixed32", "sfixed32"), 5),
}

RANGES = {
    **dict.fromkeys(("int32", "sint32", "sfixed32"), (-(1 << 31), (1 << 31) - 1)),
    **dict.fromkeys(("int64", "sint64", "sfixed64"), (-(1 << 63), (1 << 63) - 1)),
    **dict.fromkeys(("uint32", "fixed32"), (0, (1 << 32) - 1)),
    **dict.fromkeys(("uint64", "fixed64"), (0, (1 << 64) - 1)),
}

# The struct of `wire_format.py` that packs a kind, and its size in bytes.
STRUCTS = {
    "float": ("FLOAT", 4),
    "double": ("DOUBLE", 8),
    "fixed32": ("FIXED32", 4),
    "fixed64": ("FIXED64", 8),
    "sfixed32": ("SFIXED32", 4),
    "sfixed64": ("SFIXED64", 8),
}

# What an absent field reads as where presence is not told; integers read as 0.
DEFAULTS = {
    "string": '""',
    "bytes": 'b""',
    "bool": "False",
    "double": "0.0",
    "float": "0.0",
    "map": "{}",
}


def indented(lines: Iterable[str], levels: int) -> list[str]:
    """The lines, further to the right."""
    return ["    " * levels + line for line in lines]


def class_of(type_name: TypeName, package: str) -> str:
    """How the codec of `package` names a class."""
    return type_name.name if type_name.package == package else f"{alias(type_name.package)}.{type_name.name}"


def function_of(prefix: str, type_name: TypeName, package: str) -> str:
    """How the codec of `package` names what the codec of a type's own package made for it."""
    name = f"{prefix}_{type_name.name}"
    return name if type_name.package == package else f"{alias(type_name.package)}.{name}"


def alias(package: str) -> str:
    """The local name of another package's codec."""
    return package.replace(".", "_") + "_codec"


def up(package: str) -> str:
    """The dots that lead from a module of `package` to the top of the generated packages."""
    return "." * (len(package.split(".")) + 1)
