"""What is wrong with a configuration, in sentences that name the field and say what to write."""

from collections.abc import Sequence
from typing import Final

from gateway.terms.visible import visible

FAULTS_SHOWN_MAX: Final = 100


class SettingsError(Exception):
    """The configuration cannot be used; `faults` says everything that is wrong with it, never a secret's value."""

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        """`source` is the file, as the operator named it."""
        told = tuple(map(visible, faults))
        shown = list(told[:FAULTS_SHOWN_MAX])
        if len(faults) > FAULTS_SHOWN_MAX:
            shown.append(f"and {len(faults) - FAULTS_SHOWN_MAX} more")
        super().__init__("\n  ".join((f"{visible(source)} cannot be used:", *shown)))
        self.source = source
        self.faults = told


def reason(error: OSError) -> str:
    """Why the system refused, in its own words."""
    return error.strerror or str(error) or type(error).__name__
