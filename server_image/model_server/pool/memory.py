"""How much memory of its own a process has; Linux only, 0 elsewhere."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path


def own_bytes(pid: int | str = "self") -> int:
    """Memory that belongs to the process alone: what is mapped from files, such as code, the kernel can take back."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(
        int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(("RssAnon:", "RssShmem:"))
    )


def give_back() -> None:
    """Return what was freed to the system: the allocator keeps it otherwise."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others have none
        if trim is not None:
            trim(0)
