"""What an agent needs to work through the gateway: a token fetcher, a client, a loop, and a small service around them.

An agent holds nothing worth stealing: no key of a model, an exchange or a tool, only the right to ask the gateway. It
imports nothing of `gateway`; the two meet in `protos/`.
"""
