"""Text from elsewhere, made safe to show: nothing in it can end a line, move a cursor or turn the writing around."""


def visible(text: str) -> str:
    """The text with every control, bidirectional and other invisible character as its Python escape.

    Attack row 45: a name or a record may hold line breaks, terminal sequences or marks that reverse what is read.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def visible_lines(text: str) -> str:
    """The same for a text of several lines, which stay lines."""
    return "\n".join(map(visible, text.split("\n")))
