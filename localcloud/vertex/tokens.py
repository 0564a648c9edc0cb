"""The tokenizer: one way of cutting text into pieces, used for counting, for generating and for streaming alike.

A token is up to six characters of an ASCII word with the space before it, one or two letters of any other script, one
other character, or a run of white space. Cutting loses nothing: the joined tokens are the text.
"""

import re

import msgspec

TOKEN = re.compile(r" ?[0-9A-Za-z_]{1,6}|[^\W0-9A-Za-z_]{1,2}|[^\w\s]|\s+")

# What the public API counts for a picture of ordinary size, whatever it shows.
MEDIA_TOKENS = 258


def split(text: str) -> list[str]:
    """The tokens of a text, in order."""
    return TOKEN.findall(text)


def count(text: str) -> int:
    """The number of tokens of a text."""
    return len(TOKEN.findall(text))


def count_json(value: object) -> int:
    """The number of tokens of a value's compact JSON, as function arguments and declarations are counted."""
    return count(msgspec.json.encode(value).decode())
