"""The Governor: the one service between AI agents and everything that needs credentials.

The folders tell the way of a call: `wire` turns bytes into messages, `services` turns messages into terms, `call` owns
the order of everything, and the stations `identity`, `policy`, `ledger`, `llm`, `tools` and `audit` each answer one
question of it. `assembly` joins them; `terms` are the words that all share. See ARCHITECTURE.md.
"""
