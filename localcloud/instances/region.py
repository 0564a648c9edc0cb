"""A region of Cloud Run on this machine: the admin API, a service's front doors, and the instances behind them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

from localcloud.front_door import DoorConfig, FrontDoor
from localcloud.front_door.config import Access, bare_members
from localcloud.front_door.refusals import Refusal, Refused
from localcloud.front_door.upstream import ContainerLink
from localcloud.google.issuer import Issuer
from localcloud.instances.machine import Machine, place
from localcloud.instances.pool import Pool
from localcloud.instances.traffic import Traffic
from localcloud.instances.wanted import MAX_DEFAULT, wanted
from localcloud.run_admin import AdminConfig, RunAdmin
from localcloud.run_admin.annotations import SERVICE_MAX, SERVICE_MIN
from localcloud.run_admin.errors import ApiError
from localcloud.run_admin.revisions import Failure, Revision, failure_of
from localcloud.run_admin.runtime import Outcome
from localcloud.run_admin.shapes import JsonObject, texts

AUDIENCES: Final = "run.googleapis.com/custom-audiences"
INVOKER: Final = "roles/run.invoker"
NOT_SERVED: Final = Refusal(status=404, reason="no-revision", text="The requested URL was not found on this server.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionConfig:
    """What a region is told. Its one service's URL is its front door's; `tags` have doors of their own.

    `certs_url` has the issuer's keys, `door_port` 0 is any, and `seed` is for the split of traffic.
    """

    admin: AdminConfig
    machine: Machine
    certs_url: str
    service: str = "gateway-service"
    tags: tuple[str, ...] = ("candidate",)
    strip_signature: bool = True
    door_port: int = 0
    timeout_seconds: float = 3600.0
    seed: int = 0


class Region:
    """`async with Region(config, issuer) as region`: gcloud finds `region.admin`, agents find `region.door`.

    Outside, every process that it started has ended. `pools` are the instances by revision. A service's greatest number
    of instances holds for each of its revisions, its least number is split by their traffic.
    """

    def __init__(self, config: RegionConfig, issuer: Issuer) -> None:
        self.config = config
        self.traffic = Traffic(config.seed)
        self.pools: dict[str, Pool] = {}
        self.admin = RunAdmin(config.admin, issuer=issuer, runtime=self)
        self._issuer = issuer
        self._audiences: frozenset[str] = frozenset()
        self._missing: dict[str, Failure] = {}
        self._door_config = DoorConfig(
            audiences=(config.service,),
            invokers=(),
            certs_url=config.certs_url,
            strip_signature=config.strip_signature,
            timeout_seconds=config.timeout_seconds,
            port=config.door_port,
        )
        self.door = FrontDoor(self._door_config, behind=_Way(self, self.traffic.next), access=self._access)
        self._tagged = {
            tag: FrontDoor(
                replace(self._door_config, port=0),
                behind=_Way(self, self._revision_of(tag)),
                access=self._access,
            )
            for tag in config.tags
        }
        self._group = asyncio.TaskGroup()
        self._stack = contextlib.AsyncExitStack()

    @property
    def url(self) -> str:
        """The service's URL: what agents call. It is an audience of their tokens, beside the manifest's custom ones."""
        return self.door.url

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._group)
            stack.callback(self._end_all)
            for door in (self.door, *self._tagged.values()):
                await stack.enter_async_context(door)
            urls = {**self.config.admin.urls, self.config.service: self.url}
            self.admin = RunAdmin(replace(self.config.admin, urls=urls), issuer=self._issuer, runtime=self)
            await stack.enter_async_context(self.admin)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def pool(self, revision: str = "") -> Pool:
        """The instances of a revision; of the one that alone has traffic, without a name."""
        return self.pools[revision or next(iter(self.traffic.shares))]

    # What the admin API asks for: see `Runtime`.

    def begin(self, revision: Revision) -> None:
        """Start a revision's first instance."""
        if revision.service != self.config.service:
            raise ApiError(501, f"This local region runs {self.config.service}, and no other service.")
        want = wanted(revision.template)
        if want.image not in self.config.machine.images:
            failure = failure_of("image-missing", want.image)
            self._missing.update({revision.name: failure} if failure else {})
            return
        labels = {
            "K_SERVICE": revision.service,
            "K_REVISION": revision.name,
            "K_CONFIGURATION": revision.service,
        }
        machine, secret = self.config.machine, self.admin.project.secret_value
        self.pools[revision.name] = Pool(
            revision.name, want, machine, self._door_config, lambda name: place(machine, want, name, labels, secret)
        )
        self.pools[revision.name].open(self._group)

    def outcome(self, revision: Revision) -> Outcome | None:
        """Whether its first instance has become ready, or why not."""
        if (failure := self._missing.get(revision.name)) is not None:
            return Outcome(failure)
        pool = self.pools[revision.name]
        if pool.proven:
            return Outcome()
        return Outcome(pool.failed.failure) if pool.failed is not None else None

    def route(self, service: str, annotations: JsonObject, targets: Sequence[JsonObject]) -> None:  # noqa: ARG002
        """Send calls to these targets, and let as many instances wait as they ask for."""
        self.traffic.take(targets)
        known = texts({"annotations": annotations}, "annotations")
        self._audiences = frozenset(json.loads(known.get(AUDIENCES, "[]")))
        least, most = int(known.get(SERVICE_MIN, "0")), int(known.get(SERVICE_MAX, str(MAX_DEFAULT)))
        for name, pool in self.pools.items():
            share = -(-least * self.traffic.shares.get(name, 0) // 100)
            own = pool.want.least if self.traffic.active(name) else 0
            pool.keep(max(share, own), most)

    def tag_url(self, service: str, tag: str) -> str:  # noqa: ARG002  # there is one service
        """The address of a tag's own door; the service's for a tag that has none."""
        return self._tagged[tag].url if tag in self._tagged else ""

    def remove(self, service: str) -> None:  # noqa: ARG002  # there is one service
        """End all instances."""
        self.traffic.take([])
        self._end_all()

    def _end_all(self) -> None:
        for pool in self.pools.values():
            pool.close()

    def _revision_of(self, tag: str) -> Callable[[], str]:
        return lambda: self.traffic.tags.get(tag, "")

    def _access(self) -> Access:
        """Who may invoke the service at this moment, by its own policy and the project's."""
        config, admin = self.config, self.admin
        policies = [admin.project.policy]
        with contextlib.suppress(ApiError):
            policies.append(admin.services.policy(config.service))
        members = (member for policy in policies for member in policy.members(INVOKER))
        return Access(
            audiences=self._audiences | {self.url},
            members=bare_members(members),
        )


class _Way:
    """From a door to an instance of the revision that is named for this call."""

    def __init__(self, region: Region, revision: Callable[[], str]) -> None:
        self._region = region
        self._revision = revision

    @contextlib.asynccontextmanager
    async def entered(self) -> AsyncIterator[ContainerLink]:
        """See `front_door.upstream.Behind`."""
        pool = self._region.pools.get(self._revision())
        if pool is None:
            raise Refused(NOT_SERVED)
        async with pool.entered() as link:
            yield link

    async def close(self, seconds: float) -> None:
        """Close nothing: the connections are the instances', and other doors use them too."""
