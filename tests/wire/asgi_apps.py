"""ASGI applications that do what a test wants, and note what happened to them."""

import asyncio


class Noting:
    """Answers by path; keeps scopes and notes."""

    def __init__(self):
        self.scopes = []
        self.notes = []
        self.bodies = []
        self.sent = 0
        self.may_read = asyncio.Event()
        self.may_read.set()

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        act = getattr(self, scope["path"].strip("/").replace("-", "_") or "echo", self.echo)
        try:
            await act(receive, send)
        except BaseException as error:
            self.notes.append(type(error).__name__)
            raise
        else:
            self.notes.append("returned")

    async def body(self, receive):
        body, more = b"", True
        while more:
            await self.may_read.wait()
            event = await receive()
            if event["type"] == "http.disconnect":
                raise ConnectionAbortedError("left")
            body += event["body"]
            more = event["more_body"]
        self.bodies.append(body)
        return body

    async def echo(self, receive, send):
        body = await self.body(receive)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})

    async def two_ways(self, receive, send):
        """Each piece is answered when it comes."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            event = await receive()
            more = event["more_body"]
            await send({"type": "http.response.body", "body": event["body"].upper(), "more_body": more})

    async def pieces(self, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"one ", b"two ", b"three"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    async def announced(self, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body", "body": b"def"})

    async def too_long(self, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"abc"})

    async def empty(self, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def trailers(self, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"body"})
        await send({"type": "http.response.trailers", "headers": [(b"last", b"word")]})

    async def endless(self, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            self.sent += 1
            await send({"type": "http.response.body", "body": b"x" * 1_000, "more_body": True})

    async def watching(self, receive, send):
        """Waits for nothing but the end, and takes its time to clean up."""
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            await asyncio.sleep(0.005)

    async def deaf(self, receive, send):
        await asyncio.sleep(60)

    async def fails(self, receive, send):
        raise ValueError("a secret")

    async def fails_late(self, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        raise ValueError("a secret")

    async def silent(self, receive, send):
        pass

    async def bad_header(self, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\r\nc: d")]})

    async def upper_header(self, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"A", b"b")]})

    async def connection_header(self, receive, send):
        headers = [(b"connection", b"upgrade"), (b"transfer-encoding", b"chunked"), (b"a", b"b")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    async def body_first(self, receive, send):
        await send({"type": "http.response.body", "body": b"abc"})
