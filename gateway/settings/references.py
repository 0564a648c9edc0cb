"""References to secrets: `env:NAME` or `file:PATH`. A secret never stands in the configuration file itself.

No sentence here repeats a secret, nor what stands in a reference's place: it may be one.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.settings.faults import reason

SECRET_LENGTH_MAX: Final = 4_096
_SECRET: Final = re.compile(r"[\x21-\x7e]+")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENDING: Final = re.compile(r"\r?\n\Z")


def secret_of(reference: str, base: Path, variables: Mapping[str, str]) -> str:
    """What a reference leads to; paths begin at `base`. One line ending at a file's end is not a part of the secret.

    Raises ValueError with a sentence.
    """
    kind, _, name = reference.partition(":")
    if kind == "env" and _VARIABLE.fullmatch(name):
        if not variables.get(name):
            raise ValueError(f"set the environment variable {name}: it is missing or empty")
        return _checked(variables[name], f"the environment variable {name}")
    if kind == "file" and name:
        return _checked(_ENDING.sub("", _text(base / name), count=1), f"the file {base / name}")
    raise ValueError("write env:NAME or file:PATH: the secret itself never stands in this file")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(SECRET_LENGTH_MAX + 3).decode("ascii")
    except OSError as error:
        raise ValueError(f"make {path} readable: {reason(error)}") from None
    except UnicodeDecodeError:
        raise ValueError(f"write visible ASCII characters into {path}: it holds others") from None


def _checked(secret: str, where: str) -> str:
    if not secret:
        raise ValueError(f"{where} is empty: put the secret there")
    if len(secret) > SECRET_LENGTH_MAX:
        raise ValueError(f"{where} has more than {SECRET_LENGTH_MAX} characters: put the secret alone there")
    if not _SECRET.fullmatch(secret):
        raise ValueError(f"{where} holds a line break, a blank or an invisible character: put the secret alone there")
    return secret
