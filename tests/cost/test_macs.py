"""Multiply-adds: the published convention row by row, the true count against hand-written products."""

import re

import numpy as np
import pytest
import torch

from expedit import ACT, EViT, Expedit, Pool, ToMe, accelerate
from expedit.checkpoints.zoo import build
from expedit.cost.macs import cost, flop_counter
from expedit.cost.published import published_macs
from expedit.cost.trace import token_clusters, trace
from expedit.models import Segmenter
from expedit.spec import parse

NAMES = {
    "ADE20K": ("segmenter-vit-l16-ade20k", 640),
    "Cityscapes": ("segmenter-vit-l16-cityscapes", 768),
    "Pascal Context": ("segmenter-vit-l16-pascal-context", 480),
}
SPECS = {
    "Segmenter ViT-L/16": lambda setting: None,
    "+ Ours": lambda s: "expedit(alpha={}, grid=({}, {}))".format(*re.match(r"a=(\d+) (\d+)x(\d+)", s).groups()),
    "+ EViT": lambda s: f"evit(keep_rate={s.split()[1]})",
    "+ ToMe": lambda s: f"tome(ratio={int(s[2:-1]) / 100})",
}
TINY = {"classes": 5, "image_size": (48, 64), "patch": 8, "width": 32, "depth": 4, "heads": 4, "head_layers": 1}


def documented_rows(shared):
    """(data set, method, setting, GMACs with the head, true 2 x GMACs) of classes A and B of the cost document."""
    for line in (shared / "gflops.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 9 and cells[0] in NAMES and cells[6] in "AB":
            with_head = re.search(r"DECODE HEAD OMITTED; released config full model ([\d.]+)", cells[8])
            yield *cells[:3], float(with_head[1] if with_head else cells[4]), float(cells[7])


def test_every_published_segmenter_row(shared):
    """Within 0.5 % in the published convention."""
    models = {name: build(name, "meta") for name, _ in NAMES.values()}
    rows = list(documented_rows(shared))
    assert len(rows) == 30
    for data, method, setting, gmacs, _ in rows:
        name, side = NAMES[data]
        spec = SPECS[method](setting)
        found = published_macs(models[name], spec and parse(spec), (side, side))
        assert found / 1e9 == pytest.approx(gmacs, rel=5e-3), (data, method, setting)


@pytest.mark.parametrize("kind", SPECS)
def test_true_macs_of_published_rows(kind, shared):
    """Never above the count that has the dense clustering in it. One row of each method: a second of Python each."""
    row = next(row for row in documented_rows(shared) if row[1] == kind)
    name, side = NAMES[row[0]]
    spec, want = SPECS[kind](row[2]), row[4] / 2
    assert 0.96 * want <= cost(build(name, "meta"), spec and parse(spec), (side, side)).true_macs / 1e9 <= 1.001 * want


def test_true_count_of_a_dense_segmenter_by_hand():
    model = Segmenter(**TINY).eval()
    n, d, m, classes = 49, 32, 48 + 5, 5

    def block(tokens):
        return tokens * 12 * d * d + 2 * tokens * tokens * d

    embed = 48 * 3 * 64 * d
    head = 48 * d * d + block(m) + 48 * d * d + classes * d * d + 48 * classes * d
    assert cost(model, None, (48, 64)).true_macs == embed + 4 * block(n) + head


def test_attention_is_counted_on_the_cpu_as_on_the_meta_device():
    model = Segmenter(**TINY).eval()
    with flop_counter() as counter, torch.no_grad():
        model(torch.randn(2, 3, 48, 64))
    assert counter.get_total_flops() / 2 == 2 * cost(model, None, (48, 64)).true_macs


@pytest.mark.parametrize(
    ("method", "tokens"),
    [
        (None, 49),
        (Expedit(alpha=2, grid=(3, 4), top_k=4), (2 * 49 + 2 * 13) / 4),
        (Pool(alpha=1, grid=(3, 4)), (49 + 3 * 13) / 4),
        (EViT(keep_rate=0.5, layers=(1,)), (3 * 49 + 5 * 26) / 8),
        (ToMe(ratio=0.4), 49 - 19),
        (ACT(query_hashes=4), 49),
    ],
    ids=str,
)
def test_mean_tokens(method, tokens):
    found = cost(Segmenter(**TINY).eval(), method, (48, 64))
    assert found.tokens == tokens
    assert (found.clusters is not None) == isinstance(method, ACT)


def test_act_is_counted_at_its_measured_clusters():
    model = Segmenter(**TINY).eval()
    coarse, fine = (cost(model, ACT(query_hashes=hashes), (48, 64)) for hashes in (1, 32))
    dense = cost(model, None, (48, 64))
    assert 1 <= coarse.clusters < fine.clusters <= 49
    assert coarse.true_macs < fine.true_macs
    assert coarse.published_macs == pytest.approx(
        dense.published_macs - 4 * (49 - coarse.clusters) * (2 * 49 * 32 + 2 * 4 * 49)
    )


def test_tracing_leaves_the_model_alone():
    model = accelerate(Segmenter(**TINY).eval(), EViT(keep_rate=0.5, layers=(1, 2)))
    pixels = torch.randn(1, 3, 48, 64)
    with torch.inference_mode():
        before = model(pixels)
    plan = model.encoder.plan
    seen = trace(model, pixels)
    assert model.encoder.plan is plan
    with torch.inference_mode():
        assert torch.equal(model(pixels), before)
    assert len(seen.tokens) == 8
    owner = token_clusters(model, pixels)
    assert owner.shape == (6, 8)
    assert len(np.unique(owner)) <= 13  # half of 48, a fused token, and half of those
