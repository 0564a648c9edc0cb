"""Errors in the form in which Google APIs answer them: HTTP status, canonical status name, message, details."""

from collections.abc import Sequence

import msgspec

from localcloud.vertex.jsontypes import Json, JsonObject

# The canonical codes of google.rpc.Code that have an HTTP status of their own.
STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
TYPE = "type.googleapis.com/google.rpc."


class ApiError(Exception):
    """An answer other than 200. `details` are JSON forms of google.rpc messages, each with its `@type`."""

    def __init__(self, code: int, message: str, details: Sequence[JsonObject] = ()) -> None:
        """Take the HTTP status, the public sentence and the details."""
        super().__init__(message)
        self.code = code
        self.status = STATUS_NAMES.get(code, "UNKNOWN")
        self.message = message
        self.details = tuple(details)

    def document(self) -> bytes:
        """The JSON document that carries this error."""
        error: JsonObject = {"code": self.code, "message": self.message, "status": self.status}
        if self.details:
            error["details"] = list[Json](self.details)
        return msgspec.json.encode({"error": error})


def invalid(message: str) -> ApiError:
    """400 with a sentence, for what a field's type allows but the model does not."""
    return ApiError(400, message)


def bad_payload(violations: Sequence[tuple[str, str]]) -> ApiError:
    """400 for a body that does not fit its message: google.rpc.BadRequest of (path, description) pairs."""
    message = "\n".join(description for _, description in violations)
    fields: list[Json] = [{"field": path, "description": description} for path, description in violations]
    return ApiError(400, message, [{"@type": TYPE + "BadRequest", "fieldViolations": fields}])


def error_info(reason: str, metadata: JsonObject) -> JsonObject:
    """google.rpc.ErrorInfo of the API's own domain."""
    told: JsonObject = {"service": "aiplatform.googleapis.com"}
    return {"@type": TYPE + "ErrorInfo", "reason": reason, "domain": "googleapis.com", "metadata": told | metadata}


def unauthenticated(reason: str, method: str) -> ApiError:
    """401; `reason` is one of the ErrorInfo reasons that Google's front end gives, such as CREDENTIALS_MISSING."""
    if reason == "CREDENTIALS_MISSING":
        message = (
            "Request is missing required authentication credential. "
            "Expected OAuth 2 access token, login cookie or other valid authentication credential."
        )
    else:
        message = (
            "Request had invalid authentication credentials. "
            "Expected OAuth 2 access token, login cookie or other valid authentication credential."
        )
    return ApiError(401, message, [error_info(reason, {"method": method})])


def retry_info(seconds: float) -> JsonObject:
    """google.rpc.RetryInfo; the delay in protobuf's JSON form, seconds with an `s`."""
    return {"@type": TYPE + "RetryInfo", "retryDelay": f"{seconds:g}s"}
