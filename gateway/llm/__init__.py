"""The model upstreams: a reservation becomes a stream of chunks."""
