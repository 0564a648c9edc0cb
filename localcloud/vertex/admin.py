"""The admin port: faults to inject, requests that were seen, streams that are open.

GET    /admin/faults     {"faults": [...], "claimed": n}     what still waits, and how many calls were hit
POST   /admin/faults     one fault or a list of them         added behind the waiting ones
PUT    /admin/faults     a list                              replaces the waiting ones
DELETE /admin/faults
GET    /admin/requests   {"requests": [...]}                 the last requests, oldest first
DELETE /admin/requests
GET    /admin/streams    {"open", "total", "completed", "aborted"}
"""

import msgspec
from aiohttp import web

from localcloud.vertex.faults import Fault, FaultPlan
from localcloud.vertex.journal import Journal


def admin_application(faults: FaultPlan, journal: Journal) -> web.Application:
    """The application of the admin port, over the plan and the journal of one double."""
    port = _AdminPort(faults, journal)
    application = web.Application()
    application.add_routes(
        [
            web.get("/admin/faults", port.show_faults),
            web.post("/admin/faults", port.change_faults),
            web.put("/admin/faults", port.change_faults),
            web.delete("/admin/faults", port.clear_faults),
            web.get("/admin/requests", port.show_requests),
            web.delete("/admin/requests", port.clear_requests),
            web.get("/admin/streams", port.show_streams),
        ]
    )
    return application


class _AdminPort:
    """The routes of the admin port."""

    def __init__(self, faults: FaultPlan, journal: Journal) -> None:
        self._faults = faults
        self._journal = journal

    async def show_faults(self, _request: web.Request) -> web.Response:
        return _answer({"faults": self._faults.waiting, "claimed": self._faults.claimed})

    async def change_faults(self, request: web.Request) -> web.Response:
        try:
            told = msgspec.json.decode(await request.read(), type=Fault | list[Fault])
            faults = told if isinstance(told, list) else [told]
            if request.method == "PUT":
                self._faults.clear()
            self._faults.add(faults)
        except (msgspec.DecodeError, ValueError) as fault:
            return _answer({"error": str(fault)}, status=400)
        return await self.show_faults(request)

    async def clear_faults(self, request: web.Request) -> web.Response:
        self._faults.clear()
        return await self.show_faults(request)

    async def show_requests(self, _request: web.Request) -> web.Response:
        return _answer({"requests": self._journal.listing()})

    async def clear_requests(self, request: web.Request) -> web.Response:
        self._journal.entries.clear()
        return await self.show_requests(request)

    async def show_streams(self, _request: web.Request) -> web.Response:
        return _answer(self._journal.streams())


def _answer(document: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(document), content_type="application/json")
