"""Cloud Run's instances on one machine: processes that are started for calls, probed, drained, and replaced.

A revision's container is a process here: its image is a command that the machine was told, its environment and its
secrets are those of the manifest. The front door stands before them, the admin API says which of them get calls.
"""

from localcloud.instances.machine import Ended, Machine, MachineError
from localcloud.instances.region import Region, RegionConfig

__all__ = ["Ended", "Machine", "MachineError", "Region", "RegionConfig"]
