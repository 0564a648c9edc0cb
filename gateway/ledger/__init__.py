"""Promises and spending: what must be durable before an effect, and what must be durable after it."""
