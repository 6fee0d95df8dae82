"""From queries to results: the official decisions, and slow twins of the vectorised ones."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn import functional as F

from expedit.models.postprocess import (
    Sizes,
    best_pairs,
    confident,
    mask_quality,
    masks_and_quality,
    panoptic,
    rescored,
    resized,
    semantic_scores,
)


def read(shared, name):
    path = shared / "goldens" / "mask2former" / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        metadata = {key: json.loads(value) for key, value in file.metadata().items() if key != "note"}
    return load_file(path), metadata


def panoptic_of(class_logits, mask_logits, config):
    kept = confident(class_logits, config["object_mask_threshold"])
    things = frozenset(config["thing_classes"])
    labels, segments = panoptic(class_logits[kept], mask_logits[kept], things, config["overlap_threshold"])
    return labels, [{"id": s.id, "isthing": s.is_thing, "category_id": s.category} for s in segments]


def check_panoptic(found, labels, margin, segments, tolerance):
    clear = margin > tolerance
    assert clear.float().mean() > 0.9
    assert torch.equal(found[0][clear], labels[clear])
    assert found[1] == segments


def check_instances(found, golden, prefix, aux, scores, slack):
    """Match on (query, label): the official order is unspecified."""
    expected = {
        (q, c): (s, d)
        for q, c, s, d in zip(
            golden[f"{aux}.query"].tolist(),
            golden[f"{prefix}.labels"].tolist(),
            scores.tolist(),
            slack.tolist(),
            strict=True,
        )
    }
    got = dict(zip(zip(found.query.tolist(), found.category.tolist(), strict=True), found.score.tolist(), strict=True))
    assert got.keys() == expected.keys()
    for pair, (score, tolerance) in expected.items():
        assert abs(got[pair] - score) <= tolerance, pair
    assert (found.score.diff() <= 0).all()


@pytest.mark.parametrize(
    "name", ["mixed", "nothing_kept", "nothing_survives", "overlap_only", "stuff_dropped_then_kept"]
)
def test_panoptic_golden(shared, name):
    golden, metadata = read(shared, f"postprocess_panoptic_{name}")
    found = panoptic_of(golden["input.class_logits"], golden["input.mask_logits"], metadata["config"])
    check_panoptic(found, golden["output.panoptic_map"], golden["aux.pixel_margin"], metadata["segments_info"], 1e-5)
    assert found[0].dtype == torch.int32


@pytest.mark.parametrize("which", ["all", "things_only"])
def test_instance_golden(shared, which):
    golden, metadata = read(shared, "postprocess_instance")
    config, masks = metadata["config"], golden["input.mask_logits"]
    things = frozenset(config["thing_classes"]) if which == "things_only" else None
    pairs = best_pairs(golden["input.class_logits"], config["instances_top_k"], things)
    found = rescored(pairs, mask_quality(masks))
    scores = golden[f"output.{which}.scores"]
    check_instances(found, golden, f"output.{which}", f"aux.{which}", scores, torch.full_like(scores, 1e-5))
    if which == "all":
        row = {
            pair: i
            for i, pair in enumerate(
                zip(golden["aux.all.query"].tolist(), golden["output.all.labels"].tolist(), strict=True)
            )
        }
        for query, category in zip(found.query.tolist(), found.category.tolist(), strict=True):
            assert torch.equal(masks[query] > 0, golden["output.all.masks"][row[query, category]].bool())


def test_semantic_golden(shared):
    golden, _ = read(shared, "postprocess_semantic")
    scores = semantic_scores(golden["input.class_logits"], golden["input.mask_logits"])
    torch.testing.assert_close(scores, golden["output.semantic_scores"], atol=1e-5, rtol=0)
    clear = golden["aux.label_margin"] > 1e-5
    assert torch.equal(scores.argmax(0).int()[clear], golden["output.labels"][clear])


@pytest.mark.parametrize("image", [0, 1])
def test_forward_sizes_golden(shared, image):
    golden, metadata = read(shared, "postprocess_forward_sizes")
    config = metadata["config"]
    sizes = Sizes(tuple(config["padded"]), tuple(config["sizes"][image]), tuple(config["output_sizes"][image]))
    classes, small = golden["input.class_logits"][image], golden["input.mask_logits"][image]
    masks = resized(small, sizes)
    before = semantic_scores(classes, masks)
    torch.testing.assert_close(before, golden[f"output.{image}.semantic_resized_before"], atol=2e-5, rtol=0)
    scores = semantic_scores(classes, resized(small, sizes._replace(output=sizes.content)))
    after = F.interpolate(scores[None], size=sizes.output, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(after, golden[f"output.{image}.semantic_resized_after"], atol=2e-5, rtol=0)
    found = panoptic_of(classes, masks, config)
    segments = metadata["segments_info"][image]
    check_panoptic(found, golden[f"output.{image}.panoptic_map"], golden[f"aux.{image}.pixel_margin"], segments, 1e-5)
    close = (masks.abs() < 1e-4).flatten(1).any(1)
    wrong = ((masks > 0) != golden[f"output.{image}.query_masks"].bool()).flatten(1).any(1)
    assert not (wrong & ~close).any()
    for which, things in (("instance_only", None), ("things_only", frozenset(config["thing_classes"]))):
        pairs = best_pairs(classes, config["instances_top_k"], things)
        queries, place = pairs.query.unique(return_inverse=True)
        some, quality = masks_and_quality(small, queries, sizes)
        assert torch.equal(some, masks[queries] > 0)
        found = rescored(pairs._replace(query=place), quality)
        found = found._replace(query=queries[found.query])
        key = f"{image}.{which}"
        slack = golden[f"aux.{key}.score_slack"]
        check_instances(found, golden, f"output.{key}", f"aux.{key}", golden[f"output.{key}.scores"], slack)


def slow_panoptic(class_logits, mask_logits, things, score_threshold, overlap_threshold):
    """One query after the other, as the protocol is written down."""
    classes = class_logits.shape[1] - 1
    score, category = class_logits.softmax(1).max(1)
    kept = [q for q in range(len(score)) if category[q] != classes and score[q] > score_threshold]
    labels, segments, stuff = np.zeros(mask_logits.shape[1:], int), [], {}
    if not kept:
        return labels, segments
    probability = mask_logits[kept].sigmoid()
    owner = (score[kept][:, None, None] * probability).argmax(0)
    for k, query in enumerate(kept):
        inside = probability[k] >= 0.5
        owned, whole, seen = (owner == k).sum().item(), inside.sum().item(), ((owner == k) & inside)
        if owned == 0 or whole == 0 or seen.sum() == 0 or owned / whole < overlap_threshold:
            continue
        c = category[query].item()
        if c not in things and c in stuff:
            labels[seen.numpy()] = stuff[c]
            continue
        segments.append((len(segments) + 1, c, c in things))
        labels[seen.numpy()] = len(segments)
        if c not in things:
            stuff[c] = len(segments)
    return labels, segments


@pytest.mark.parametrize("seed", range(6))
def test_panoptic_equals_its_slow_twin(seed):
    torch.manual_seed(seed)
    class_logits, things = 4 * torch.randn(14, 6), frozenset((0, 2))
    mask_logits = F.interpolate(6 * torch.randn(1, 14, 5, 6), size=(31, 37), mode="bicubic")[0]
    kept = confident(class_logits, 0.6)
    labels, segments = panoptic(class_logits[kept], mask_logits[kept], things, 0.4)
    expected = slow_panoptic(class_logits, mask_logits, things, 0.6, 0.4)
    assert np.array_equal(labels.numpy(), expected[0])
    assert [(s.id, s.category, s.is_thing) for s in segments] == expected[1]
    assert expected[1], "the case must have segments"
    assert all(0.6 < s.score <= 1 for s in segments)


def test_fewer_pairs_than_asked_for():
    pairs = best_pairs(torch.randn(3, 5), 100)
    assert len(pairs.score) == 12
    none = best_pairs(torch.randn(3, 5), 100, frozenset())
    assert len(rescored(none, torch.ones(3)).score) == 0
    masks, quality = masks_and_quality(torch.randn(3, 4, 4), none.query, Sizes((16, 16), (16, 16), (9, 7)))
    assert masks.shape == (0, 9, 7)
    assert quality.shape == (0,)


def test_equal_scores_are_ordered_by_query_then_class():
    pairs = best_pairs(torch.zeros(3, 3), 100)
    found = rescored(pairs, torch.ones(3))
    assert list(zip(found.query.tolist(), found.category.tolist(), strict=True)) == [
        (q, c) for q in range(3) for c in range(2)
    ]
