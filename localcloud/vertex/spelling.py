"""How enums are written in an answer: by name, or by number where the client asked for numbers."""

from localcloud.vertex.shapes import ENUM_NUMBERS


class Spelling:
    """Writes enum values; `numeric` follows from `$alt=json;enum-encoding=int`, which the GAPIC clients send."""

    __slots__ = ("numeric",)

    def __init__(self, *, numeric: bool) -> None:
        """Take whether numbers are wanted."""
        self.numeric = numeric

    def __call__(self, enum: str, name: str) -> str | int:
        """The value in the wanted form; a name without a number stays a name, for the sets are open."""
        return ENUM_NUMBERS[enum].get(name, name) if self.numeric else name
