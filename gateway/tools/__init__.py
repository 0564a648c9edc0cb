"""The tool upstreams: which tools there are, what their arguments may be, and how each is executed at most once."""
