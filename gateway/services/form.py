"""The form of a request: what is wrong with a message before anything is asked of the call."""

from gateway.terms.ids import RUN_ID, RunId
from gateway.terms.verdict import Kind, Refusal, RefusedError, Violation


def malformed(field: str, description: str) -> RefusedError:
    """The refusal of one field of a request."""
    return RefusedError(
        Refusal(
            kind=Kind.MALFORMED,
            reason="request.malformed",
            sentence=f"{field}: {description}",
            violations=(Violation(field=field, description=description),),
        )
    )


def run_id(text: str) -> RunId:
    """A run id, or none."""
    if text and not RUN_ID.fullmatch(text):
        raise malformed("run_id", "use 1 to 64 characters of A-Z a-z 0-9 _ . : -")
    return RunId(text)
