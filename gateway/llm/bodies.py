"""The body of an HTTP reply, read to its end within a bound."""

import aiohttp


class BodyTooLargeError(ValueError):
    """The body is larger than the reader's bound."""


async def whole_body(reply: aiohttp.ClientResponse, size_max: int) -> bytes:
    """All of it; raises `BodyTooLargeError` as soon as there is more, and aiohttp's errors. The caller sets the time.

    One `read` of aiohttp's returns what is there already, which is the first packet and not the body.
    """
    body = bytearray()
    async for received in reply.content.iter_any():
        body += received
        if len(body) > size_max:
            raise BodyTooLargeError(f"more than {size_max} bytes")
    return bytes(body)
