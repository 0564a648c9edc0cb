"""Errors in the form in which Google's APIs answer them: code, status name, message, field violations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_TYPE: Final = "type.googleapis.com/google.rpc."
_STATUS: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that the API does not take, by its path, and why."""

    field: str
    description: str


class ApiError(Exception):
    """An answer other than 200. `details` are JSON forms of google.rpc messages."""

    def __init__(self, code: int, message: str, *, status: str = "", details: Sequence[dict[str, object]] = ()) -> None:
        """`status` is named only where the code has several: 409 is ALREADY_EXISTS or ABORTED."""
        super().__init__(message)
        self.code = code
        self.status = status or _STATUS.get(code, "UNKNOWN")
        self.message = message
        self.details = tuple(details)

    def document(self) -> dict[str, object]:
        """The JSON document that carries this error."""
        error: dict[str, object] = {"code": self.code, "message": self.message, "status": self.status}
        if self.details:
            error["details"] = list(self.details)
        return {"error": error}


def invalid(violations: Sequence[Violation]) -> ApiError:
    """400 with a BadRequest; gcloud shows each as "field: description"."""
    fields = [{"field": one.field, "description": one.description} for one in violations]
    message = "; ".join(f"{one.field}: {one.description}" for one in violations)
    return ApiError(400, message, details=[{"@type": f"{_TYPE}BadRequest", "fieldViolations": fields}])


def not_found(what: str) -> ApiError:
    """404 in the sentence of Google's APIs."""
    return ApiError(404, f"Resource '{what}' was not found")


def already_exists(what: str) -> ApiError:
    """409 for a name that is taken."""
    return ApiError(409, f"{what} already exists.")


def aborted(message: str) -> ApiError:
    """409 for a write that is based on what is no longer so."""
    return ApiError(409, message, status="ABORTED")


def disabled(api: str, number: int) -> ApiError:
    """403 for an API that the project has not enabled (ErrorInfo SERVICE_DISABLED)."""
    message = (
        f"{api} has not been used in project {number} before or it is disabled. Enable it by visiting "
        f"https://console.developers.google.com/apis/api/{api}/overview?project={number} then retry."
    )
    info: dict[str, object] = {
        "@type": f"{_TYPE}ErrorInfo",
        "reason": "SERVICE_DISABLED",
        "domain": "googleapis.com",
        "metadata": {"service": api, "consumer": f"projects/{number}"},
    }
    return ApiError(403, message, details=[info])
