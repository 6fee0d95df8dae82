"""Which dtypes this processor multiplies."""

from __future__ import annotations

from pathlib import Path

PRODUCTS = {"bf16": {"amx_bf16", "avx512_bf16", "bf16"}, "fp16": {"amx_fp16", "avx512_fp16", "asimdhp"}}
"""What Linux calls the instructions for matrix products in half precision, of x86 and of ARM."""


def multiplies_in(dtype: str) -> bool | None:
    """Whether this processor multiplies numbers of ``dtype``, "fp32", "bf16" or "fp16", without converting them first.

    Where it does not, half precision is several times slower than fp32. ``None`` where the system does not say: only
    Linux does.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    return dtype == "fp32" or not flags.isdisjoint(PRODUCTS[dtype])
