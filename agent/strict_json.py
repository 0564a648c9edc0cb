"""JSON with one meaning only, as it must be where it comes from strangers: no name twice, no NaN, no endless depth."""

import json
from collections.abc import Iterable


def json_object(text: bytes | str) -> dict[str, object]:
    """The object that this JSON text is (RFC 8259). Raises `ValueError` with a sentence for everything else."""
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refused)
    except UnicodeDecodeError:
        raise ValueError("this is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"this is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("this JSON is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("this is JSON, but no object")  # noqa: TRY004 - bad content, not a bad call
    return value


def _without_duplicates(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name!r} stands here twice")
        found[name] = value
    return found


def _refused(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON")
