"""The wire: bytes on one port become messages and calls, and answers become bytes.

The service table (`table`) is the waist: path -> method and function. Whatever protocol a stream speaks, it drives that
one table, so no check can be missing on one of them. `server` is what `gateway.assembly` starts and drains.

    socket -> connection -> (per stream, by content-type) grpc -> table -> services

HTTP/2 itself is h2 under grpclib's protocol classes; `http2` and `connection` own what these lack: budgets, refusals,
coalesced writes, a graceful end.
"""
