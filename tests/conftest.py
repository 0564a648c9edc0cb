"""Makes `whole`, the gateway in one process that several suites share, importable from every test."""
