"""Cloud Run's front door on one machine: an HTTP/2 reverse proxy that lets in only invokers with a valid ID token."""

from localcloud.front_door.access_log import Entry
from localcloud.front_door.config import DoorConfig, DoorConfigError
from localcloud.front_door.door import FrontDoor

__all__ = ["DoorConfig", "DoorConfigError", "Entry", "FrontDoor"]
