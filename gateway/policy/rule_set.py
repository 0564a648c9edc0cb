"""A set of Cedar files as written, and the rules in it: parsed, linted and validated, or refused with every fault.

Beyond Cedar's own strict validation three mistakes are refused that Cedar passes: an annotation it does not know (a
misspelt `@advice` would change what a rule does), a test with `has` for an attribute that nothing can have (a misspelt
name would make a rule silent), and a template (it decides nothing until someone links it).
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cedarpy

from gateway.policy.looks import looks
from gateway.policy.rules import APPROVAL, Effect, Rule
from gateway.policy.schema import PolicySchema
from gateway.policy.shapes import Record
from gateway.terms.ids import RuleId
from gateway.terms.strict_json import JsonValue

FILE_BYTES_MAX: Final = 256 * 1024
FILES_MAX: Final = 256
RULES_MAX: Final = 1_000
"""A decision takes time in proportion: 1,000 rules were measured at 0.7 ms (governance study, section 1.2)."""

ID: Final = re.compile(r"[a-z][a-z0-9._-]{0,63}")
SAY: Final = re.compile(r"[\x20-\x7e]{1,200}")
NESTING_MAX: Final = 64
TERMS_BYTES_MAX: Final = 8 * 1024
"""Of one rule: nested brackets, and its length without texts, lists' commas, comments and blanks. Cedar's parser has no
bound of its own: 800 nested brackets or 20,000 terms in a chain ended the process (measured with cedarpy 4.12.2)."""

_NOT_TERMS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|[\s,]+')
_TOO_DEEP: Final = "a condition is nested too deep or has too many terms; split the rule, or compare with a list"
_ANNOTATIONS: Final = frozenset({"id", "advice", "say", "obligation"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFault:
    """One thing wrong with a policy set."""

    file: str
    rule: str
    """The rule's `@id`, its place in the file where it has none, or empty where it is about the whole file."""
    message: str

    def __str__(self) -> str:
        where = f"{self.file}, rule {self.rule}" if self.rule else self.file
        return f"{where}: {self.message}"


class PolicyLoadError(ValueError):
    """A policy set that must not be used; `faults` has everything that is wrong with it."""

    def __init__(self, faults: tuple[PolicyFault, ...]) -> None:
        super().__init__("\n".join(("the policy set is refused:", *(f"  {fault}" for fault in faults))))
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """One file of rules."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """Rules that passed every check, ready for the engine."""

    rules: Mapping[str, Rule]
    everything: cedarpy.PolicySet
    without_approvals: cedarpy.PolicySet
    """The same without the rules that a person could lift."""
    schema: cedarpy.Schema
    asked_schema: cedarpy.Schema
    """Of what is put to the engine: contexts with nothing but what the rules look at."""
    asked: Mapping[str, Record]
    """The types of these contexts by action."""
    hash: str
    """SHA-256 in hex over the length-framed names and texts of the files in order, and the schema."""


def read_files(folder: Path) -> tuple[PolicyFile, ...]:
    """The `*.cedar` files of a folder in the order of their names, or raise `PolicyLoadError`.

    A folder without any is refused: it is a wrong path sooner than the wish that every call be refused. That wish is a
    file without rules.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".cedar")
    except OSError as error:
        raise PolicyLoadError((_fault(str(folder), f"cannot be read: {error.strerror}"),)) from None
    if not 0 < len(paths) <= FILES_MAX:
        raise PolicyLoadError((_fault(str(folder), f"has {len(paths)} files *.cedar; put 1 to {FILES_MAX} there"),))
    files: list[PolicyFile] = []
    faults: list[PolicyFault] = []
    for path in paths:
        try:
            data = path.read_bytes()
            if len(data) > FILE_BYTES_MAX:
                faults.append(_fault(path.name, f"is longer than {FILE_BYTES_MAX} bytes; split it"))
            files.append(PolicyFile(name=path.name, text=data.decode("utf-8")))
        except OSError as error:
            faults.append(_fault(path.name, f"cannot be read: {error.strerror}"))
        except UnicodeDecodeError as error:
            faults.append(_fault(path.name, f"is not UTF-8 at byte {error.start}"))
    if faults:
        raise PolicyLoadError(tuple(faults))
    return tuple(files)


def compiled(files: tuple[PolicyFile, ...], schema: PolicySchema) -> RuleSet:
    """Parse, lint and validate, or raise `PolicyLoadError` with every fault of every file."""
    handle = cedarpy.Schema.from_json_str(schema.text)
    faults: list[PolicyFault] = []
    rules: dict[str, Rule] = {}
    bodies: dict[str, JsonValue] = {}
    for file in files:
        try:
            parsed = _parsed(file)
        except ValueError as error:
            faults.append(_fault(file.name, f"is not Cedar: {error}"))
            continue
        faults.extend(_validated(file, handle))
        for key, body in parsed.items():
            rule = _Reading(file=file.name, key=key, body=body, names=schema.names)
            faults.extend(rule.faults())
            name = rule.annotation("id")
            if name in rules:
                faults.append(_fault(file.name, "give it an @id of its own; another rule has this one", name))
            rules[name], bodies[name] = rule.rule(), body
    if len(rules) > RULES_MAX:
        faults.append(_fault(files[0].name, f"the set has more than {RULES_MAX} rules; split it by tenant"))
    if faults:
        raise PolicyLoadError(tuple(faults))
    asked = schema.only(looks(bodies.values()))
    asked_handle = cedarpy.Schema.from_json_str(asked.text)
    for file in files:
        # The engine itself says that no rule looks at anything else.
        faults.extend(_validated(file, asked_handle))
    if faults:
        raise PolicyLoadError(tuple(faults))
    return RuleSet(
        rules=rules,
        asked_schema=asked_handle,
        asked=asked.contexts,
        everything=_handle(bodies),
        without_approvals=_handle({name: body for name, body in bodies.items() if rules[name].advice != APPROVAL}),
        schema=handle,
        hash=_hash(files, schema),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """One parsed rule and its annotations."""

    file: str
    key: str
    body: JsonValue
    names: frozenset[str]

    def annotation(self, name: str) -> str:
        """An annotation's text; empty if it is absent or says nothing."""
        value = _members(_members(self.body).get("annotations")).get(name)
        return value if isinstance(value, str) else ""

    def rule(self) -> Rule:
        return Rule(
            id=RuleId(self.annotation("id")),
            effect=Effect(str(_members(self.body)["effect"])),
            advice=self.annotation("advice"),
            say=self.annotation("say"),
            obligation=self.annotation("obligation"),
        )

    def faults(self) -> Iterator[PolicyFault]:
        where = self.annotation("id") or f"number {int(self.key.removeprefix('policy')) + 1}"
        for message in self._messages():
            yield _fault(self.file, message, where)

    def _messages(self) -> Iterator[str]:
        given = _members(_members(self.body).get("annotations"))
        forbids = _members(self.body)["effect"] == Effect.FORBID.value
        if ID.fullmatch(self.annotation("id")) is None:
            yield "give it an @id of at most 64 of a-z 0-9 . _ - that begins with a letter"
        for name in sorted(given.keys() - _ANNOTATIONS):
            yield f"@{name} is not known; only {', '.join(sorted('@' + known for known in _ANNOTATIONS))} are"
        for name, wanted in (("advice", True), ("say", True), ("obligation", False)):
            if name in given and forbids is not wanted:
                yield f"@{name} belongs to a {'forbid' if wanted else 'permit'}"
        if "advice" in given and given["advice"] != APPROVAL:
            yield f'@advice can only say "{APPROVAL}"'
        if "say" in given and SAY.fullmatch(self.annotation("say")) is None:
            yield "@say must be one line of at most 200 printable ASCII characters"
        if "obligation" in given and ID.fullmatch(self.annotation("obligation").replace(":", "-")) is None:
            yield "@obligation must name what is to be done"
        for name in sorted(set(_tested(self.body)) - self.names):
            yield f"it asks whether something has {name!r}, which nothing can have; correct the name"
        if not _fits(self.body):
            yield _TOO_DEEP


def _parsed(file: PolicyFile) -> Mapping[str, JsonValue]:
    """The rules of a file by their place in it. Raises ValueError."""
    _refuse_depth(file.text)
    try:
        # The engine's own JSON, not a caller's: it is as deep as the conditions are, so it is not read strictly.
        document = _members(json.loads(cedarpy.policies_to_json_str(file.text)))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if document.get("templates"):
        raise ValueError("templates (?principal, ?resource) are not supported; write the rule out")
    return _members(document.get("staticPolicies"))


def _refuse_depth(text: str) -> None:
    for statement in _NOT_TERMS.sub("", text).split(";"):
        if len(statement) > TERMS_BYTES_MAX:
            raise ValueError(_TOO_DEEP)
        depth = 0
        for character in statement:
            depth += (character in "([{") - (character in ")]}")
            if depth > NESTING_MAX:
                raise ValueError(_TOO_DEEP)


def _validated(file: PolicyFile, schema: cedarpy.Schema) -> Iterator[PolicyFault]:
    """Cedar's strict validation: every attribute exists, has the right type and is guarded where it is optional."""
    result = cedarpy.validate_policies(file.text, schema)
    names = result.id_annotations_by_policy_id
    for error in result.errors:
        yield _fault(file.name, error.error, str(names.get(error.policy_id, error.policy_id)))
    if not result.validation_passed and not result.errors:
        yield _fault(file.name, "the validator refuses it and does not say why")


def _handle(bodies: Mapping[str, JsonValue]) -> cedarpy.PolicySet:
    """A parsed set in which every rule's engine name is its `@id`."""
    document = {"templates": {}, "staticPolicies": bodies, "templateLinks": []}
    return cedarpy.PolicySet.from_json_str(json.dumps(document))


def _fits(body: JsonValue) -> bool:
    """Whether the engine takes the rule in its JSON form, which may be less deep than its text (about 50 terms)."""
    try:
        _handle({"rule": body})
    except (ValueError, RecursionError):
        return False
    return True


def _tested(node: JsonValue) -> Iterator[str]:
    """The names that a rule tests with `has`: `{"has": {"left": ..., "attr": NAME}}` anywhere in it."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, dict):
            test = _members(one.get("has"))
            name = test.get("attr")
            if "left" in test and isinstance(name, str):
                yield name
            waiting.extend(one.values())


def _hash(files: tuple[PolicyFile, ...], schema: PolicySchema) -> str:
    digest = hashlib.sha256()
    parts = [part for file in sorted(files, key=lambda file: file.name) for part in (file.name, file.text)]
    for part in (*parts, schema.text):
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def _fault(file: str, message: str, rule: str = "") -> PolicyFault:
    return PolicyFault(file=file, rule=rule, message=message)


def _members(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}
