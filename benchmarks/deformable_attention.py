"""Mask2Former's deformable attention: ours against the library's, alone and inside the whole network.

    python benchmarks/deformable_attention.py            (about 4 minutes on two cores)

Batch 1, fp32, both in turn in one process; medians, and the median ratio of the rounds.
"""

import argparse

import torch
from transformers.models.mask2former import modeling_mask2former as library

from expedit.checkpoints.zoo import build
from expedit.cost.macs import noise
from expedit.cost.speed import environment, interleave, peak_tensors, threads
from expedit.models.deformable import REPLACED, DeformableAttention


def one_layer(side: int):
    """One layer of the pixel decoder at Swin-L's sizes for ``side`` x ``side`` pixels: the library's and ours."""
    sizes = [(side // stride, side // stride) for stride in (32, 16, 8)]
    length = sum(h * w for h, w in sizes)
    theirs = getattr(library, f"Mask2FormerPixelDecoderEncoder{REPLACED}")(256, 8, 3, 4).eval()
    given = {
        "hidden_states": (x := torch.randn(1, length, 256)),
        "encoder_hidden_states": x,
        "reference_points": torch.rand(1, length, 3, 2),
        "spatial_shapes_list": sizes,
    }
    ours = DeformableAttention(theirs)
    return {"library": lambda: theirs(**given), "ours": lambda: ours(**given)}


def whole(side: int):
    """Mask2Former with Swin-L; the one with the library's attention is put together from the same parameters."""
    model = build("mask2former-swin-l-coco-panoptic")
    plain = library.Mask2FormerForUniversalSegmentation(model.architecture.config()).eval()
    plain.load_state_dict(model.network.state_dict(), assign=True)
    pixels = noise((side, side), next(model.parameters()))
    return {"library": lambda: plain(pixel_values=pixels), "ours": lambda: model(pixels)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=800)
    args = parser.parse_args()
    with threads(args.threads), torch.inference_mode():
        print(environment())
        for name, runs in (("one layer", one_layer(args.side)), ("whole network", whole(args.side))):
            timings = interleave(runs, args.rounds)
            ratio = timings["ours"].speedup_over(timings["library"])
            figures = ", ".join(
                f"{kind} {1e3 * timing.median:.0f} ms, peak {peak_tensors(runs[kind]) / 2**20:.0f} MB"
                for kind, timing in timings.items()
            )
            print(f"{name} at {args.side}x{args.side}: {figures}, ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
