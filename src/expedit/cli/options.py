"""Arguments that several verbs share."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from ..runtime import multiplies_in

if TYPE_CHECKING:
    import torch

    from ..evaluation.processes import Processes


def positive(text: str) -> int:
    """An argument that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return int(text)


def add_methods(parser: argparse.ArgumentParser) -> None:
    """``-m SPEC``, any number of times."""
    parser.add_argument(
        "-m",
        "--method",
        action="append",
        default=[],
        metavar="SPEC",
        help="a method and its settings, such as 'expedit(alpha=10, grid=(28, 28))'; repeat for several",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """``--option NAME``, any number of times."""
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME",
        help="how a method runs on this kind of backbone; Swin has official_shift_mask and official_padding, with which"
        " the published figures were measured; repeat for several",
    )


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """Keywords of ``accelerate``."""
    return dict.fromkeys(args.option, True)


def add_network(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """``--revision`` and ``--task``: of networks of transformers."""
    group = parser.add_argument_group("networks of transformers")
    group.add_argument("--revision", metavar="R", help="branch, tag or commit of a hub name")
    group.add_argument("--task", help="what to make of it, where it can do several: panoptic, instance or semantic")
    return group


def add_library(parser: argparse.ArgumentParser) -> None:
    """What ``add_network`` adds, and ``--pixels``."""
    add_network(parser).add_argument(
        "--pixels",
        type=positive,
        nargs="+",
        metavar="N",
        help="features of the whole image with a shorter side of N pixels, or of H W (default: as its processor says)",
    )


def library_of(args: argparse.Namespace) -> dict[str, Any]:
    """Keywords of ``load``."""
    if args.pixels is not None and len(args.pixels) > 2:
        raise ValueError(f"--pixels: expected the shorter side, or height and width, got {len(args.pixels)} numbers")
    size = None if args.pixels is None else args.pixels[0] if len(args.pixels) == 1 else tuple(args.pixels)
    return {"revision": args.revision, "task": args.task, "size": size}


def add_machine(parser: argparse.ArgumentParser) -> None:
    """``--device``, ``--dtype`` and ``--threads``."""
    parser.add_argument("--device", default="cpu", help="cpu or cuda[:N] (default: cpu)")
    parser.add_argument(
        "--dtype", default="fp32", choices=("fp32", "bf16", "fp16"), help="of weights and activations (default: fp32)"
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: what torch takes)")


def add_window_batch(parser: argparse.ArgumentParser) -> None:
    """``--window-batch``."""
    parser.add_argument(
        "--window-batch", type=positive, default=1, metavar="N", help="sliding windows per run (default: 1)"
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """``--workers``."""
    parser.add_argument(
        "--workers", type=positive, metavar="N", help="threads that read ahead (default: half the cores)"
    )


def add_compile(parser: argparse.ArgumentParser) -> None:
    """``--compile``."""
    parser.add_argument(
        "--compile",
        action="store_true",
        help="run through torch.compile: minutes for the first image of every size, faster after that",
    )


def add_pixels(parser: argparse.ArgumentParser) -> None:
    """``--max-pixels``."""
    parser.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="read pictures of up to N pixels (default: 89 million, beyond which a small file may fill the memory)",
    )


def add_clips(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """``--frame-batch``, ``--window`` and ``--overlap``: how a video model goes through a clip."""
    group = parser.add_argument_group("video models")
    group.add_argument("--frame-batch", type=int, default=4, metavar="N", help="frames per backbone run (default: 4)")
    group.add_argument(
        "--window",
        type=int,
        metavar="N",
        help="look at N frames at once and link the tracks: bounds the memory (default: the whole clip, as published)",
    )
    group.add_argument("--overlap", type=int, metavar="N", help="frames that windows share (default: a quarter)")
    return group


def dtype_of(args: argparse.Namespace) -> torch.dtype:
    """The torch dtype that ``--dtype`` names."""
    from ..surgery import DTYPES

    return DTYPES[args.dtype]


def remark(args: argparse.Namespace) -> str | None:
    """What one should know of this machine before a long run with these arguments."""
    dtype = getattr(args, "dtype", "fp32")
    if getattr(args, "device", "") == "cpu" and multiplies_in(dtype) is False:
        return f"--dtype {dtype}: this processor has no {dtype} products, so it will be several times slower than fp32"
    return None


def check_device(device: str) -> str:
    """``device`` if this machine has it; ValueError otherwise."""
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device}: this machine does not have it ({str(error).splitlines()[0]})") from None
    return device


def default_workers() -> int:
    """Threads that read ahead: half the cores."""
    return min(max((os.cpu_count() or 2) // 2, 2), 8)


def device_of(args: argparse.Namespace, processes: Processes) -> str:
    """The device of this process; ValueError if the machine does not have it."""
    return check_device(f"cuda:{processes.local}" if args.device == "cuda" and processes.world > 1 else args.device)


def add_numerics(parser: argparse.ArgumentParser) -> None:
    """``--norm-eps`` and ``--pos-embed``: on what the two official codes differ."""
    parser.add_argument(
        "--norm-eps",
        type=_positive,
        metavar="EPS",
        help="epsilon of the encoder's LayerNorms (default: what the checkpoint says; 1e-5 for the original Segmenter's"
        " files, 1e-6, as in the published tables, for those of the Expedit repository)",
    )
    parser.add_argument(
        "--pos-embed",
        choices=("bicubic", "bilinear"),
        help="how positions are resized (default: what the checkpoint says; bilinear for the original Segmenter's"
        " files, bicubic, as in the published tables, for those of the Expedit repository)",
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a small positive number, got {text}")
    return value
