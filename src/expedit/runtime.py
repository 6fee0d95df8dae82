"""What the machine below does well: memory that stays mapped, and the dtypes it has products for."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's ``mallopt``."""

LARGEST = 2**31 - 1

PRODUCTS = {"bf16": {"amx_bf16", "avx512_bf16", "bf16"}, "fp16": {"amx_fp16", "avx512_fp16", "asimdhp"}}
"""What Linux calls the instructions for matrix products in half precision, of x86 and of ARM."""


def keep_memory() -> bool:
    """Let this process keep the memory it frees, so that the next forward pass finds its pages still mapped.

    By default glibc gives every large tensor back to the system and asks for new pages for the next one, which the
    system fills with zeros one fault at a time, 99,000 of them in one forward of a ViT-L at 640 x 640
    (``benchmarks/memory_pages.py``). The process then holds on to its peak memory; ``release_memory`` gives back what
    is free. Programs of your own may set ``MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483647`` in
    their environment instead, or load another allocator.

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


def multiplies_in(dtype: str) -> bool | None:
    """Whether this processor multiplies numbers of ``dtype``, "fp32", "bf16" or "fp16", without converting them first.

    Where it does not, half precision is several times slower than fp32. ``None`` where the system does not tell: only
    Linux does.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    return dtype == "fp32" or not flags.isdisjoint(PRODUCTS[dtype])


def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, if it is glibc."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if getattr(library, "gnu_get_libc_version", None) else None
