"""The demonstration: the whole system as processes on this machine, and what can be seen of it from outside."""

from localcloud.demo.command import command

__all__ = ["command"]
