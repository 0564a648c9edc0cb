"""The rules of `tools` and `toolConfig`: declared functions, and how the model may choose among them."""

import re

from localcloud.vertex.errors import invalid
from localcloud.vertex.jsontypes import JsonObject, as_list, as_object, as_text, strings
from localcloud.vertex.prompt import Function, Tooling

# Vertex AI: 1 to 64 letters, digits, underscores, dots, colons or dashes, not starting with a digit or a sign.
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
MAX_FUNCTIONS = 512


def read_tooling(members: JsonObject) -> Tooling:
    """The declared functions and the calling mode; 400 for a tool that this server does not provide."""
    functions: list[Function] = []
    for tool in as_list(members.get("tools")):
        declared = as_object(tool)
        unknown = [name for name in declared if name != "functionDeclarations"]
        if unknown:
            raise invalid(f"The tool {unknown[0]} is not supported by this model server.")
        functions += [_function(as_object(item)) for item in as_list(declared.get("functionDeclarations"))]
    _check_names(functions)
    return _choice(members, tuple(functions))


def _choice(members: JsonObject, functions: tuple[Function, ...]) -> Tooling:
    config = as_object(as_object(members.get("toolConfig")).get("functionCallingConfig"))
    mode = as_text(config.get("mode")).removesuffix("MODE_UNSPECIFIED") or "AUTO"
    allowed = strings(config.get("allowedFunctionNames"))
    if config.get("streamFunctionCallArguments") is True:
        raise invalid("Streaming of function call arguments is not supported by this model server.")
    if allowed and mode not in ("ANY", "VALIDATED"):
        raise invalid("allowedFunctionNames may be set only where the function calling mode is ANY or VALIDATED.")
    missing = sorted(set(allowed) - {function.name for function in functions})
    if missing:
        raise invalid(f"The allowed function `{missing[0]}` is not declared.")
    if mode == "ANY" and not functions:
        raise invalid("The function calling mode ANY needs at least one function declaration.")
    return Tooling(functions=functions, mode=mode, allowed=allowed)


def _function(declaration: JsonObject) -> Function:
    name = as_text(declaration.get("name"))
    if not NAME.fullmatch(name):
        told = "Must start with a letter or an underscore, then letters, digits, _ . : -, at most 64 characters"
        raise invalid(f"Invalid function name `{name}`. {told}.")
    if "parameters" in declaration and "parametersJsonSchema" in declaration:
        raise invalid(f"Function `{name}`: only one of parameters and parametersJsonSchema may be set.")
    schema = declaration.get("parameters", declaration.get("parametersJsonSchema", {}))
    if not isinstance(schema, dict):
        raise invalid(f"Function `{name}`: the schema of its parameters must be a JSON object.")
    if schema and as_text(schema.get("type")).lower() != "object":
        raise invalid(f"Function `{name}`: the schema of its parameters must be of type OBJECT.")
    return Function(name=name, description=as_text(declaration.get("description")), schema=schema)


def _check_names(functions: list[Function]) -> None:
    if len(functions) > MAX_FUNCTIONS:
        raise invalid(f"At most {MAX_FUNCTIONS} function declarations are supported, got {len(functions)}.")
    seen: set[str] = set()
    for function in functions:
        if function.name in seen:
            raise invalid(f"Duplicate function declaration found: {function.name}")
        seen.add(function.name)
