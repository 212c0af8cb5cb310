"""Peak memory of training."""

from __future__ import annotations

import ctypes
import re
from contextlib import suppress
from pathlib import Path

import torch

from vaebench.errors import error_text
from vaebench.records.schema import Metric, Note


class PeakMemory:
    """Peak memory above the level at the start: of CUDA's allocator or the resident set."""

    def __init__(self, device: str) -> None:
        self._device = device
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self._start = torch.cuda.memory_allocated(device) / 2**20
        else:
            _return_freed_memory()
            self._reason = _reset_resident_peak()
            self._start = _resident("VmRSS") or 0.0

    def peak(self) -> Metric:
        """Return the peak since this object was made, in MiB above the first level."""
        name = "peak_memory_mib"
        if self._device.startswith("cuda"):
            peak = torch.cuda.max_memory_allocated(self._device) / 2**20
            return Metric.measured(name, peak - self._start)
        if self._reason is not None:
            return Metric.absent(name, Note.of("not_measurable", self._reason))
        peak_resident = _resident("VmHWM")
        if peak_resident is None:
            why = "this system does not report the resident peak of a process"
            return Metric.absent(name, Note.of("not_measurable", why))
        return Metric.measured(name, max(0.0, peak_resident - self._start))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the memory of a device or of the machine is full."""
    # On a CPU torch raises a RuntimeError, which can only be recognised by its text.
    allocation = isinstance(error, RuntimeError) and "can't allocate memory" in error_text(error)
    return allocation or isinstance(error, torch.OutOfMemoryError | MemoryError)


def _return_freed_memory() -> None:
    """Give memory freed by earlier cells back to the system, so that its reuse is counted."""
    with suppress(AttributeError, OSError):  # other C libraries keep little, or have no such call
        ctypes.CDLL(None).malloc_trim(0)


def _reset_resident_peak() -> str | None:
    """Reset the kernel's peak memory counter of this process; return why it failed, or None."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return "this system cannot reset the resident peak of a process"
    return None


def _resident(field: str) -> float | None:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else None
