"""The order of everything, once: `act` is a governed tool call, `converse` a governed model stream, `count` a count.

Nothing here does I/O: what a call needs of the stations is said in `stations`, and `gateway.assembly` joins them.
"""
