"""Which revision takes the next call: drawn by the per cent of a service's traffic list, from a seeded sequence."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from localcloud.run_admin.shapes import JsonObject, number, text


@dataclass(slots=True)
class Traffic:
    """A service's traffic. The same seed and the same calls give the same revisions."""

    seed: int = 0
    shares: dict[str, int] = field(default_factory=dict)
    """Per cent by revision; those without calls are left out."""
    tags: dict[str, str] = field(default_factory=dict)
    """Revisions by tag."""
    _draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)  # noqa: S311  # a share of calls is no secret

    def take(self, targets: Sequence[JsonObject]) -> None:
        """Go by these targets from now on; their shares add up to 100."""
        self.shares, self.tags = {}, {}
        for target in targets:
            revision, percent, tag = text(target, "revisionName"), number(target, "percent", 0), text(target, "tag")
            if percent:
                self.shares[revision] = self.shares.get(revision, 0) + percent
            if tag:
                self.tags[tag] = revision

    def active(self, revision: str) -> bool:
        """Whether a revision can be called at all."""
        return revision in self.shares or revision in self.tags.values()

    def next(self) -> str:
        """The revision of the next call; empty where nothing has traffic."""
        place = self._draw.randrange(100)
        for revision, percent in self.shares.items():
            place -= percent
            if place < 0:
                return revision
        return ""
