"""The metadata server's tree: directories, values, and leaves that are made for each request."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

# The content types of the real server: its plain values are no text/plain.
TEXT = "application/text"
JSON = "application/json"
HTML = "text/html"

Query = Mapping[str, str]


class Reply(NamedTuple):
    """An answer before it is an HTTP response."""

    status: int
    content_type: str
    body: str


@dataclass(frozen=True, slots=True)
class Live:
    """A leaf whose answer depends on the query and the time: a token."""

    answer: Callable[[Query], Reply]


Node = dict[str, "Node"] | list[str] | str | int | Live


def find(tree: Node, path: str) -> Node | None:
    """Return the node at a path such as `/computeMetadata/v1/project/`; None when there is none."""
    node = tree
    for name in path.strip("/").split("/"):
        if not name:
            continue
        if not isinstance(node, dict) or name not in node:
            return None
        node = node[name]
    return node


def render(node: Node, query: Query) -> Reply:
    """Answer with a node: a directory as a listing, everything below it as JSON with `recursive=true`."""
    if isinstance(node, Live):
        return node.answer(query)
    if query.get("recursive", "").lower() == "true" or query.get("alt") == "json":
        return Reply(200, JSON, json.dumps(_whole(node)))
    if isinstance(node, dict):
        listing = "".join(f"{name}/\n" if isinstance(child, dict) else f"{name}\n" for name, child in node.items())
        return Reply(200, TEXT, listing)
    if isinstance(node, list):
        return Reply(200, TEXT, "".join(f"{item}\n" for item in node))
    return Reply(200, TEXT, str(node))


def _whole(node: Node) -> object:
    """Return everything below a node; tokens are never part of it, as at the real server."""
    if not isinstance(node, dict):
        return node
    return {_camel(name): _whole(child) for name, child in node.items() if not isinstance(child, Live)}


def _camel(name: str) -> str:
    """Return `numeric-project-id` as `numericProjectId`; an e-mail address stays what it is."""
    if "@" in name:
        return name
    first, *rest = name.split("-")
    return first + "".join(word.capitalize() for word in rest)
