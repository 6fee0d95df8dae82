"""``expedit doctor``."""

from __future__ import annotations

import argparse
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .options import add_pixels
from .unused import refuse_unused

CORE = (
    "torch",
    "numpy",
    "Pillow",
    "opencv-python-headless",
    "safetensors",
    "hotcoco",
    "PyYAML",
    "rich",
    "matplotlib",
    "jinja2",
    "shtab",
)
EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "hf": (("transformers", "scipy"), "networks of transformers, Mask2Former for images and video"),
    "app": (("gradio",), "expedit explore, a page in the browser"),
    "export": (("onnx", "onnxscript", "onnxruntime", "openvino"), "files for ONNX Runtime and OpenVINO"),
    "remote": (("fsspec",), "images at URLs such as s3://bucket/photos"),
    "parquet": (("pyarrow",), "results as tables"),
    "ray": (("ray", "pyarrow"), "expedit predict --ray, on a cluster"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("--data", type=Path, metavar="PATH", help="check a data set instead: a folder or a zip file")
    add_pixels(parser)


def run(args: argparse.Namespace) -> int:
    """Print what is there, what is missing and what it is for; status 2 if something is broken."""
    if args.data is not None:
        return check_data(args.data)
    refuse_unused(args, {"max_pixels": "is for the pictures of a data set; give --data, too"})
    print("core")
    missing = [name for name in CORE if not _line(name)]
    print("\nextras")
    for extra, (packages, purpose) in EXTRAS.items():
        absent = [name for name in packages if _version(name) is None]
        state = f"missing {', '.join(absent)}: pip install 'expedit[{extra}]'" if absent else "installed"
        print(f"  {extra:8} {state} (for {purpose})")
    problems = [f"missing: {', '.join(missing)}; reinstall expedit"] if missing else []
    if "torch" not in missing:
        print("\ndevices")
        problems += check_torch()
    for problem in problems:
        print(f"\nPROBLEM: {problem}")
    if not problems:
        print("\nno problems found")
    return 2 if problems else 0


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _line(name: str) -> bool:
    found = _version(name)
    print(f"  {name:24} {found or 'missing'}")
    return found is not None


def check_torch() -> list[str]:
    """Print the devices; what is wrong with torch and its neighbours, one sentence each."""
    import torch

    print(f"  cpu      {torch.get_num_threads()} threads")
    for index in range(torch.cuda.device_count()):
        print(f"  cuda:{index}   {torch.cuda.get_device_name(index)}")
    if torch.backends.mps.is_available():
        print("  mps      Apple GPU")
    return check_torchvision()


def check_torchvision() -> list[str]:
    """A torchvision made for another torch breaks the imports of transformers and timm; it is better not there."""
    found = _version("torchvision")
    if found is None:
        return []
    try:
        import_module("torchvision")
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return [
            f"torchvision {found} cannot be imported beside torch {_version('torch')} ({reason}). Its mere presence "
            "breaks transformers and timm: install the build that matches your torch, or pip uninstall torchvision"
        ]
    return []


def check_data(path: Path) -> int:
    """Print which data sets a folder or archive holds, and what is wrong with them."""
    from ..data import LAYOUTS
    from ..data.inspect import inspect

    reports = inspect(path)
    if not reports:
        print(f"{path}: the layout of no data set that expedit knows; expected one of")
        for layout in LAYOUTS.values():
            print(f"  {layout.name}: {layout.expected}")
    for report in reports:
        unit = "clips" if LAYOUTS[report.name].task == "video" else "images"
        print(f"{path}: {report.name}")
        print(f"  {report.split}: {report.count} {unit}, {report.checked} read with their ground truth")
        for line in (report.problem or "nothing wrong", *report.remarks):
            print(f"    {line}")
    return 0 if reports and all(report.problem is None for report in reports) else 2
