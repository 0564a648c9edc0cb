"""A transport that sends once per turn of the loop what was written in that turn."""

import asyncio


class Outbox(asyncio.Transport):
    """Collects writes: each `send` is a system call and a wakeup of the peer, and a small answer alone is three frames.

    Measured: python-rpc study, section 3, step 1.
    """

    def __init__(self, transport: asyncio.Transport, burst_bytes: int) -> None:
        super().__init__()
        self._transport = transport
        self._burst_bytes = burst_bytes
        self._loop = asyncio.get_running_loop()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep for the end of the turn; a burst leaves at once, so that back-pressure is felt within the turn."""
        if self._ended or not data:
            return
        if not self._pending:
            self._loop.call_soon(self.send)
        self._pending.append(bytes(data))
        self._pending_bytes += len(data)
        if self._pending_bytes >= self._burst_bytes:
            self.send()

    def send(self) -> None:
        """Send what was collected."""
        if not self._pending:
            return
        data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        if not self._transport.is_closing():
            self._transport.write(data)

    def end(self) -> None:
        """Send what was collected and say that nothing follows; what is written after is dropped."""
        if self._ended:
            return
        self.send()
        self._ended = True
        if self._transport.is_closing():
            return
        if self._transport.get_extra_info("ssl_object") is not None:
            # TLS has no half of an end; its close sends what there is and waits for the peer's, but not for ever.
            self._transport.close()
            return
        try:
            self._transport.write_eof()
        except OSError:
            # The peer was faster.
            self._transport.abort()

    def is_closing(self) -> bool:
        """Whether what is written now is lost."""
        return self._ended or self._transport.is_closing()

    def close(self) -> None:
        """Send what was collected, then close."""
        self.end()
        self._transport.close()

    def abort(self) -> None:
        """Close without sending."""
        self._ended = True
        self._pending.clear()
        self._transport.abort()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """See `asyncio.Transport`."""
        return self._transport.get_extra_info(name, default)
