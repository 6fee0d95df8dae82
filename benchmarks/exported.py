"""Exported files beside the eager model: ViT-L/16 at 640 x 640, dense and Expedit, in ONNX Runtime and OpenVINO.

    python benchmarks/exported.py files/              (writes what is missing, minutes; then times, minutes)
    python benchmarks/exported.py files/ --write-only

All contestants run in turn in one process. The speed-up is over the dense model of the same runtime; efficiency is the
speed-up by the ratio of multiply-adds. The difference is to the eager model, relative to the norm of the logits.
"""

import argparse
from pathlib import Path

import torch

import expedit
from expedit.checkpoints.zoo import build
from expedit.cost.benchmark import count
from expedit.cost.macs import noise
from expedit.cost.speed import environment, interleave, threads
from expedit.models.programs import onnx_runner, openvino_runner
from expedit.spec import parse

NAME, SIZE = "segmenter-vit-l16-ade20k", (640, 640)
SPECS = {"dense": None, "expedit": "expedit(alpha=10, grid=(28, 28))"}
RUNTIMES = {"ONNX Runtime": onnx_runner, "OpenVINO": openvino_runner}


def main() -> None:
    """Write, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write-only", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(0)
    dense = build(NAME)
    for name, spec in SPECS.items():
        if not (args.folder / f"{name}.onnx").exists():
            print(expedit.export(dense, args.folder / f"{name}.onnx", spec), flush=True)
    if args.write_only:
        return
    pixels = noise(SIZE, next(dense.parameters()))
    fast = expedit.accelerate(dense, SPECS["expedit"])
    counted = count(dense, [parse(SPECS["expedit"])], SIZE)
    ratio = counted[0].true_gmacs / counted[1].true_gmacs
    with threads(args.threads), torch.inference_mode():
        print(environment())
        runs = {("torch", "dense"): lambda: dense(pixels), ("torch", "expedit"): lambda: fast(pixels)}
        for runtime, opened in RUNTIMES.items():
            for name in SPECS:
                runner = opened(args.folder / f"{name}.onnx")
                runs[runtime, name] = lambda runner=runner: torch.from_numpy(runner.run(pixels.numpy())[0])
        outputs = {key: run() for key, run in runs.items()}
        timings = interleave(runs, args.rounds, 0)
    for (runtime, name), timing in timings.items():
        eager = outputs["torch", name]
        difference = (outputs[runtime, name] - eager).norm() / eager.norm()
        speedup = timing.speedup_over(timings[runtime, "dense"])
        efficiency = speedup / (1 if name == "dense" else ratio)
        print(f"{runtime:12} {name:8} {timing.median:6.2f} s, {speedup:.2f} times dense, {efficiency:.2f} of the saved")
        print(f"{'':12} relative difference to eager {difference:.1e}")


if __name__ == "__main__":
    main()
