"""The free memory of this machine."""

from __future__ import annotations

import re
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Return the bytes that can be allocated without swapping; None if the system does not say.

    The memory limit of a container is included.
    """
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", _MEMINFO.read_text("ascii"), re.MULTILINE)
    except OSError:
        return None
    if found is None:
        return None
    free = int(found[1]) * 1024
    try:
        limit, used = (
            (_GROUP / f"memory.{name}").read_text("ascii") for name in ("max", "current")
        )
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):  # no such limit, or it is "max"
        return free
