"""A rendered manifest, taken apart into what the checks and the commands ask for."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from deploy.faults import DeployError
from deploy.yaml_subset import Yaml, YamlError, read_yaml

Tree: TypeAlias = Mapping[str, Yaml]

_EMPTY: Final[Tree] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVersion:
    """A secret that a manifest refers to."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A Knative service. Values are as YAML reads them; what is absent is empty."""

    service: Tree

    @classmethod
    def of(cls, text: str) -> "Manifest":
        """Read a manifest; raises DeployError for one that is no plain YAML mapping."""
        try:
            tree = read_yaml(text)
        except YamlError as error:
            raise DeployError(f"the manifest cannot be read: {error}") from error
        if not isinstance(tree, dict):
            raise DeployError("the manifest is no mapping")
        return cls(service=tree)

    @property
    def name(self) -> str:
        """The service's name."""
        return _text(_below(self.service, "metadata"), "name")

    @property
    def template(self) -> Tree:
        """What revisions are made of."""
        return _below(self.service, "spec", "template")

    @property
    def account(self) -> str:
        """The address of the service account that it runs as; empty for the project's default one."""
        return _text(_below(self.template, "spec"), "serviceAccountName")

    @property
    def annotations(self) -> Tree:
        """The service's annotations."""
        return _below(self.service, "metadata", "annotations")

    @property
    def revision_annotations(self) -> Tree:
        """The annotations of every revision."""
        return _below(self.template, "metadata", "annotations")

    @property
    def audience(self) -> str:
        """The first of its custom audiences: what agents ask tokens for then. Empty for the service's own URL."""
        written = _text(self.annotations, "run.googleapis.com/custom-audiences")
        try:
            listed = json.loads(written or "[]")
        except ValueError as error:
            raise DeployError(f"run.googleapis.com/custom-audiences: write a JSON list of URLs: {error}") from error
        return str(listed[0]) if isinstance(listed, list) and listed else ""

    @property
    def containers(self) -> list[Tree]:
        """The containers."""
        return _rows(_below(self.template, "spec"), "containers")

    @property
    def variables(self) -> frozenset[str]:
        """The names of all variables, wherever their values come from."""
        return frozenset(name for name, _ in self._variables())

    @property
    def environment(self) -> dict[str, Yaml]:
        """The variables that have their value in the manifest."""
        return {name: variable.get("value") for name, variable in self._variables() if "valueFrom" not in variable}

    @property
    def secrets(self) -> list[SecretVersion]:
        """The secrets that it refers to, as variables and as files, in their order, each once."""
        return list(dict.fromkeys(self._secrets()))

    def _variables(self) -> Iterator[tuple[str, Tree]]:
        for container in self.containers:
            for variable in _rows(container, "env"):
                yield _text(variable, "name"), variable

    def _secrets(self) -> Iterator[SecretVersion]:
        for _, variable in self._variables():
            if reference := _below(variable, "valueFrom", "secretKeyRef"):
                yield SecretVersion(name=_text(reference, "name"), version=_text(reference, "key"))
        for volume in _rows(_below(self.template, "spec"), "volumes"):
            if secret := _below(volume, "secret"):
                for item in _rows(secret, "items") or [{"key": "latest"}]:
                    yield SecretVersion(name=_text(secret, "secretName"), version=_text(item, "key"))


def _below(tree: Tree, *names: str) -> Tree:
    for name in names:
        inner = tree.get(name)
        tree = inner if isinstance(inner, dict) else _EMPTY
    return tree


def _rows(tree: Tree, name: str) -> list[Tree]:
    rows = tree.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _text(tree: Tree, name: str) -> str:
    value = tree.get(name)
    return value if isinstance(value, str) else ""
