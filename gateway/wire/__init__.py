"""The wire: bytes on one port become messages and calls, and answers become bytes.

The service table (`table`) is the waist: path -> method and function. Whatever protocol a stream speaks, it drives that
one table, so no check can be missing on one of them. `server` is what `gateway.assembly` starts and drains.

    socket -> door -> HTTP/2: connection -> (per stream, by content-type) grpc -> table -> services
                                         -> asgi_stream -> asgi -> an ASGI application (`web`) -> table -> services
                   -> HTTP/1.1: http1_connection -> asgi -> the same application

HTTP/2 itself is h2 under grpclib's protocol classes; `frame_reader`, `hpack_decoder`, `http2` and `connection` own what
these lack: speed where calls are made of it, budgets, refusals, coalesced writes, a graceful end.
"""
