"""The tools of the gateway as functions that a model may ask for."""

from collections.abc import Iterable
from dataclasses import replace

from gateway.terms.asks import RunTools, ToolDeclaration
from gateway.terms.conversation import Choosing, Conversation, Function
from gateway.terms.limits import FUNCTIONS_MAX
from gateway.terms.verdict import Kind, Refusal, RefusedError, malformed


def chosen(offered: Iterable[ToolDeclaration], asked: RunTools) -> tuple[ToolDeclaration, ...]:
    """The tools that the caller names, of those that it may ask for; raises `RefusedError`.

    A tool that it may not ask for is answered as one that does not exist, as ExecuteTool answers it.
    """
    versions: dict[str, list[ToolDeclaration]] = {}
    for tool in offered:
        versions.setdefault(tool.name, []).append(tool)
    if not asked.tools:
        return tuple(_only(found, name, "run_tools.tools") for name, found in versions.items())
    tools: dict[str, ToolDeclaration] = {}
    for place, text in enumerate(asked.tools):
        name, _, version = text.partition("@")
        found = [tool for tool in versions.get(name, ()) if version in ("", tool.version)]
        if not found:
            raise RefusedError(_UNKNOWN)
        if name in tools:
            raise RefusedError(malformed(f"run_tools.tools[{place}]", "names a tool again; name each once"))
        tools[name] = _only(found, name, f"run_tools.tools[{place}]")
    return tuple(tools.values())


def declared(conversation: Conversation, tools: tuple[ToolDeclaration, ...]) -> Conversation:
    """The conversation with these tools among its functions; raises `RefusedError`."""
    names = {tool.name for tool in tools}
    for place, function in enumerate(conversation.functions):
        if function.name in names:
            told = "is a tool that the gateway runs: declare it once, in run_tools or here"
            raise RefusedError(malformed(f"functions[{place}].name", told))
    if len(conversation.functions) + len(tools) > FUNCTIONS_MAX:
        raise RefusedError(malformed("run_tools.tools", f"name fewer: {FUNCTIONS_MAX} with the functions are the most"))
    functions = (*conversation.functions, *map(_function, tools))
    if conversation.choosing is Choosing.ANY and not functions:
        raise RefusedError(
            malformed("function_calling.mode", "MODE_ANY needs functions to call, and you have no tools")
        )
    known = {function.name for function in functions}
    for place, name in enumerate(conversation.allowed_functions):
        if name not in known:
            told = "names no declared function and no tool of run_tools"
            raise RefusedError(malformed(f"function_calling.allowed_names[{place}]", told))
    return replace(conversation, functions=functions)


def _function(tool: ToolDeclaration) -> Function:
    return Function(name=tool.name, description=tool.description, parameters_json_schema=tool.arguments_schema)


def _only(found: list[ToolDeclaration], name: str, field: str) -> ToolDeclaration:
    if len(found) > 1:
        versions = ", ".join(f"{name}@{tool.version}" for tool in found)
        raise RefusedError(malformed(field, f"{name} has several versions: name one of {versions}"))
    return found[0]


_UNKNOWN = Refusal(
    kind=Kind.NOT_FOUND,
    reason="tool.unknown",
    sentence="run_tools names a tool that you do not have; ListTools names yours.",
)
