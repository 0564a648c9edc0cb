"""IAM policies: who holds which role on one resource, written only over what was read (etag)."""

import base64
import re
from collections.abc import Callable
from typing import Final

from localcloud.run_admin.errors import ApiError, aborted
from localcloud.run_admin.shapes import Json, JsonObject, rows, table, text

_MEMBER: Final = re.compile(
    r"allUsers|allAuthenticatedUsers|(?:user|serviceAccount|group|domain|principal|principalSet):[^\s:].*"
)
_ROLE: Final = re.compile(r"(?:(?:projects|organizations)/[a-z0-9-]+/)?roles/[A-Za-z0-9_.]+")


class Policy:
    """The bindings of one resource."""

    def __init__(self) -> None:
        self._bindings: list[JsonObject] = []
        self._version = 0

    @property
    def etag(self) -> str:
        """Changes with every write."""
        return base64.b64encode(b"\0\x20" + self._version.to_bytes(4, "big")).decode()

    def document(self) -> JsonObject:
        """As the API writes it; a policy without bindings has only its etag."""
        said: JsonObject = {"version": 1, "etag": self.etag}
        if self._bindings:
            said["bindings"] = list[Json](self._bindings)
        return said

    def members(self, role: str) -> frozenset[str]:
        """Who holds a role without a condition."""
        return frozenset(
            member
            for binding in self._bindings
            if text(binding, "role") == role and not table(binding, "condition")
            for member in _members(binding)
        )

    def replace(self, wanted: JsonObject, exists: Callable[[str], bool]) -> JsonObject:
        """Take a whole policy; `exists` tells of a member whether there is such an account.

        Raises ApiError: 409 for an etag of before, 400 for members and roles that are none.
        """
        etag = text(wanted, "etag")
        if etag and etag != self.etag:
            raise aborted(
                "There were concurrent policy changes. "
                "Please retry the whole read-modify-write with exponential backoff."
            )
        bindings = rows(wanted, "bindings")
        for binding in bindings:
            if not _ROLE.fullmatch(text(binding, "role")):
                raise ApiError(400, f"Role {text(binding, 'role')} is not valid.")
            for member in _members(binding):
                if not _MEMBER.fullmatch(member):
                    raise ApiError(400, f"Invalid value for member: {member}")
                if not exists(member):
                    raise ApiError(400, f"Service account {member.partition(':')[2]} does not exist.")
        self._bindings = [binding for binding in bindings if _members(binding)]
        self._version += 1
        return self.document()


def _members(binding: JsonObject) -> list[str]:
    members = binding.get("members")
    return [member for member in members if isinstance(member, str)] if isinstance(members, list) else []
