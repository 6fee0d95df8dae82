"""Settings of the later methods for the neutral table: one per method and share of the dense multiply-adds.

    python benchmarks/frontier_settings.py WEIGHTS

WEIGHTS is the folder of a DINOv2 that transformers wrote; only its config.json is read. What is printed are the rows of
``SETTINGS``: the budget of each method solved for the shares of the table, on pictures of 392 x 504. All else in them
(blocks, neighbours, branches) was chosen on 6 training images of CamVid with the DINOv2-small of the table, by mIoU and
agreement at .67 and .5 of the multiply-adds.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from transformers import Dinov2Config, Dinov2Model

from expedit import ALGM, ATS, MPM, AiluRus, CubistMerge, EvoViT, PiToMe, ToMe2D
from expedit.core import Method
from expedit.cost.macs import cost

SIZE = (392, 504)
RATIOS = (0.85, 0.67, 0.5, 0.4)

BUDGETS: dict[str, tuple[Callable[[float], Method], float, float]] = {
    "pitome": (lambda keep: PiToMe(keep=keep), 0.7, 0.999),
    "tome2d": (lambda keep: ToMe2D(ratio=round(1 - keep, 3), branches="both"), 0.25, 1.0),
    "ailurus": (lambda keep: AiluRus(alpha=1, keep=keep, neighbours=2), 0.1, 0.99),
    "algm": (lambda keep: ALGM(windows=round(1 - keep, 3), ratio=round((1 - keep) / 2, 3), layers=(0, 2)), 0.0, 1.0),
    "mpm": (lambda keep: MPM(ratio=round(1 - keep, 3), layers=(0, 2, 4, 6)), 0.5, 1.0),
    "cubistmerge": (lambda keep: CubistMerge(alpha=2, grid=keep), 0.5, 0.99),
    "ats": (lambda keep: ATS(keep_rate=keep), 0.1, 0.99),
    "evovit": (lambda keep: EvoViT(keep_rate=keep), 0.02, 0.99),
}
"""By method: what a budget makes of it, more of which costs more, and the bounds of the search."""

SETTINGS: dict[str, dict[float, str]] = {
    "pitome": {
        0.85: "pitome(keep=0.974)",
        0.67: "pitome(keep=0.939)",
        0.5: "pitome(keep=0.891)",
        0.4: "pitome(keep=0.849)",
    },
    "tome2d": {
        0.85: "tome2d(ratio=0.166, branches='both')",
        0.67: "tome2d(ratio=0.324, branches='both')",
        0.5: "tome2d(ratio=0.486, branches='both')",
        0.4: "tome2d(ratio=0.589, branches='both')",
    },
    "ailurus": {
        0.85: "ailurus(alpha=1, keep=0.858, neighbours=2)",
        0.67: "ailurus(alpha=1, keep=0.688, neighbours=2)",
        0.5: "ailurus(alpha=1, keep=0.511, neighbours=2)",
        0.4: "ailurus(alpha=1, keep=0.398, neighbours=2)",
    },
    "algm": {
        0.85: "algm(windows=0.117, ratio=0.058, layers=(0, 2))",
        0.67: "algm(windows=0.27, ratio=0.135, layers=(0, 2))",
        0.5: "algm(windows=0.449, ratio=0.224, layers=(0, 2))",
        0.4: "algm(windows=0.574, ratio=0.287, layers=(0, 2))",
    },
    "mpm": {
        0.85: "mpm(ratio=0.056, layers=(0, 2, 4, 6))",
        0.67: "mpm(ratio=0.119, layers=(0, 2, 4, 6))",
        0.5: "mpm(ratio=0.197, layers=(0, 2, 4, 6))",
        0.4: "mpm(ratio=0.258, layers=(0, 2, 4, 6))",
    },
    "cubistmerge": {
        0.85: "cubistmerge(alpha=2, grid=0.928)",
        0.67: "cubistmerge(alpha=2, grid=0.806)",
        0.5: "cubistmerge(alpha=2, grid=0.684)",
        0.4: "cubistmerge(alpha=2, grid=0.577)",
    },
    "ats": {
        0.85: "ats(keep_rate=0.901)",
        0.67: "ats(keep_rate=0.748)",
        0.5: "ats(keep_rate=0.535)",
        0.4: "ats(keep_rate=0.344)",
    },
    "evovit": {
        0.85: "evovit(keep_rate=0.756)",
        0.67: "evovit(keep_rate=0.433)",
        0.5: "evovit(keep_rate=0.066)",
    },
}
"""By method and share of the multiply-adds; a share that is missing cannot be reached."""


def solve(build: Callable[[float], Method], low: float, high: float, ratio: float, share: Callable[[Method], float]):
    """The method whose ``share`` comes nearest to ``ratio``, by three digits of its budget, and that share."""
    tried = []
    for _ in range(10):
        middle = round((low + high) / 2, 3)
        method = build(middle)
        tried.append((method, share(method)))
        if abs(tried[-1][1] - ratio) < 1e-3:
            break
        low, high = (low, middle) if tried[-1][1] > ratio else (middle, high)
    return min(tried, key=lambda pair: abs(pair[1] - ratio))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    model = Dinov2Model(Dinov2Config.from_pretrained(parser.parse_args().weights)).eval()
    dense = cost(model, None, SIZE).true_macs
    for name, (build, low, high) in BUDGETS.items():
        print(f'    "{name}": {{')
        for ratio in RATIOS:
            method, found = solve(build, low, high, ratio, lambda method: cost(model, method, SIZE).true_macs / dense)
            if abs(found - ratio) <= 0.01:
                print(f'        {ratio}: "{method!r}",')
        print("    },")


if __name__ == "__main__":
    main()
