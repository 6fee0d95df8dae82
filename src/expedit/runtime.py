"""The C library's memory on Linux: fresh pages cost more time than much of the arithmetic done on them."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's ``mallopt``."""

LARGEST = 2**31 - 1


def keep_memory() -> bool:
    """Let this process keep the memory it frees, so that the next forward pass finds its pages still mapped.

    By default glibc gives every large tensor back to the system and asks for new pages for the next one, which the
    system fills with zeros one fault at a time. For a ViT-L on a CPU that was a tenth of the time
    (``benchmarks/memory_pages.py``). The process then holds on to its peak memory;
    ``release_memory`` gives back what is free. Programs of your own may set ``MALLOC_MMAP_THRESHOLD_=1073741824
    MALLOC_TRIM_THRESHOLD_=2147483647`` in their environment instead, or load another allocator.

    Returns:
        Whether this system has the setting: Linux with glibc does.
    """
    library = _glibc()
    return library is not None and all(library.mallopt(key, LARGEST) for key in (TRIM_THRESHOLD, MMAP_THRESHOLD))


def release_memory() -> None:
    """Give free memory back to the system now; nothing where there is no such call."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, if it is glibc."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if getattr(library, "gnu_get_libc_version", None) else None
