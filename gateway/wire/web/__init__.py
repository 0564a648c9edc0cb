"""The web: Connect, gRPC-Web and plain health over the service table, as one ASGI 3 application.

ASGI (https://asgi.readthedocs.io) is the seam to the transports: whatever speaks it, over HTTP/1.1 or HTTP/2, can carry
these protocols, and nothing here knows which one does.

    scope -> application -> endpoint (path) -> dialect (content-type) -> call, which speaks it -> table -> services

A call runs in the task of the application: no other is needed while its request is complete and nothing waits.
"""
