"""Why a deployment does not go on, in sentences that say what to do."""

from collections.abc import Sequence


class DeployError(Exception):
    """Something that the operator has to put right first."""


class CommandError(DeployError):
    """A command that failed; `said` is what it wrote about that."""

    def __init__(self, command: str, said: str) -> None:
        super().__init__(f"this command failed:\n    {command}\n{_indented(said)}")
        self.said = said

    @property
    def not_found(self) -> bool:
        """Whether what the command is about does not exist."""
        return "NOT_FOUND" in self.said or "Cannot find" in self.said or "was not found" in self.said

    @property
    def exists_already(self) -> bool:
        """Whether what was to be created is there."""
        return "already exists" in self.said or "ALREADY_EXISTS" in self.said

    @property
    def too_early(self) -> bool:
        """Whether an account is not known yet everywhere: a new one takes some seconds."""
        return "does not exist" in self.said


class RefusedError(DeployError):
    """The preflight found something that must not be deployed."""

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__("\n  ".join(("not deployed:", *findings)))


def _indented(said: str) -> str:
    return "\n".join(f"    {line}" for line in said.strip().splitlines())
