"""Mask2Former: networks, components and whole predictions against the official ones; weights that do not fit."""

import json
import pickle
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import expedit
from expedit.checkpoints import mask2former, zoo
from expedit.checkpoints.safetensors_format import save
from expedit.inference import queries_of
from expedit.models.detectron2 import converted
from expedit.models.mask2former import Mask2Former
from expedit.models.postprocess import (
    Sizes,
    best_pairs,
    confident,
    mask_quality,
    panoptic,
    rescored,
    resized,
    semantic_scores,
)
from expedit.prepare import prepared
from golden_mask2former import architecture_of, card_of, folder_of, golden_model, metadata_of, weights_of
from small_mask2former import small_architecture

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize(
    "name",
    [
        "a_baseline_160x224",
        "a_baseline_96x128_batch2",
        "a_hourglass_loc5_192x192",
        "a_hourglass_loc6_160x224",
        "t_baseline_128x192",
        "t_hourglass_96x128",
    ],
)
def test_network_golden(shared, name):
    path = folder_of(shared) / f"mask2former_{name}.safetensors"
    golden = load_file(path)
    model, _ = golden_model(folder_of(shared), path)
    with torch.inference_mode():
        classes, masks = model(golden["input.image"])
        out = model.network(pixel_values=golden["input.image"], output_hidden_states=True, output_auxiliary_logits=True)
    for level, feature_map in enumerate(out.encoder_hidden_states):
        torch.testing.assert_close(feature_map, golden[f"output.res{level + 2}"], atol=1e-4, rtol=0)
    for level, feature_map in enumerate(out.pixel_decoder_hidden_states):
        torch.testing.assert_close(feature_map, golden[f"output.multi_scale.{level}"], atol=1e-4, rtol=0)
    torch.testing.assert_close(out.pixel_decoder_last_hidden_state, golden["output.mask_features"], atol=1e-4, rtol=0)
    for layer, logits in enumerate(out.auxiliary_logits):
        expected = golden[f"output.auxiliary_class_logits.{layer}"]
        torch.testing.assert_close(logits["class_queries_logits"], expected, atol=2e-4, rtol=0)
        expected = golden[f"output.auxiliary_mask_logits.{layer}"]
        torch.testing.assert_close(logits["masks_queries_logits"], expected, atol=5e-4, rtol=0)
    torch.testing.assert_close(classes, golden["output.class_logits"], atol=2e-4, rtol=0)
    torch.testing.assert_close(masks, golden["output.mask_logits"], atol=5e-4, rtol=0)


def test_component_goldens(shared):
    path = folder_of(shared) / "mask2former_a_components.safetensors"
    golden = load_file(path)
    model, config = golden_model(folder_of(shared), path)
    decoder = model.network.model.pixel_level_module.decoder
    features, position = golden["input.deformable.features"], golden["input.deformable.position"]
    shapes = [tuple(shape) for shape in config["spatial_shapes"]]
    reference = golden["aux.deformable.reference_points"][None].expand(len(features), -1, -1, -1)
    common = {
        "attention_mask": torch.zeros(features.shape[:2], dtype=torch.bool),
        "position_embeddings": position,
        "reference_points": reference,
        "spatial_shapes_list": shapes,
    }
    layer = decoder.encoder.layers[0]
    with torch.inference_mode():
        attention, weights = layer.self_attn(features, encoder_hidden_states=features, **common)
        torch.testing.assert_close(attention, golden["output.deformable.attention"], atol=1e-4, rtol=0)
        torch.testing.assert_close(weights[:1], golden["aux.deformable.weights"], atol=1e-4, rtol=0)
        torch.testing.assert_close(
            layer(features, **common)[0], golden["output.deformable.encoder_layer"], atol=1e-4, rtol=0
        )
        for name in [name for name in golden if "position_2d" in name]:
            h, w = map(int, name.rsplit(".", 1)[1].split("x"))
            encoding = decoder.position_embedding(torch.Size((1, 1, h, w)), torch.device("cpu"), torch.float32)
            torch.testing.assert_close(encoding, golden[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "image"), [("end_to_end_single", 0), ("end_to_end", 0), ("end_to_end", 1)])
def test_end_to_end_golden(shared, name, image):
    path = folder_of(shared) / f"mask2former_a_{name}.safetensors"
    golden, metadata = load_file(path), metadata_of(path)
    model, config = golden_model(folder_of(shared), path)
    pixels = golden[f"input.image.{image}"]
    mean, std = (torch.tensor(config[f"pixel_{key}"])[:, None, None] for key in ("mean", "std"))
    (h, w), padded = config["sizes"][image], tuple(config["padded"])
    batch = torch.zeros(1, 3, *padded)  # the official code pads to the largest image of the batch
    batch[0, :, :h, :w] = (pixels - mean) / std
    with torch.inference_mode():
        classes, small = (logits[0] for logits in model(batch))
    torch.testing.assert_close(classes, golden["aux.class_logits"][image], atol=2e-4, rtol=0)
    torch.testing.assert_close(small, golden["aux.mask_logits"][image], atol=5e-4, rtol=0)
    masks = resized(small, Sizes(padded, (h, w), tuple(config["output_sizes"][image])))
    scores = semantic_scores(classes, masks)
    torch.testing.assert_close(scores, golden[f"output.{image}.semantic_scores"], atol=2e-4, rtol=0)
    kept, things = confident(classes, config["object_mask_threshold"]), frozenset(config["thing_classes"])
    labels, segments = panoptic(classes[kept], masks[kept], things, config["overlap_threshold"])
    clear = golden[f"aux.{image}.pixel_margin"] > 1e-4
    assert torch.equal(labels[clear], golden[f"output.{image}.panoptic_map"][clear])
    said = [{"id": s.id, "isthing": s.is_thing, "category_id": s.category} for s in segments]
    assert said == metadata["segments_info"][image]
    wrong = (masks > 0) != golden[f"output.{image}.query_masks"].bool()
    assert not (wrong & (masks.abs() > 1e-3)).any()
    found = rescored(best_pairs(classes, config["instances_top_k"], things), mask_quality(masks))
    got = {(q, c): s for s, c, q in zip(*(values.tolist() for values in found), strict=True)}
    keys = (f"aux.{image}.instance.query", f"output.{image}.instance.labels", f"output.{image}.instance.scores")
    slack = golden[f"aux.{image}.instance.score_slack"].tolist()
    for query, label, score, most in zip(*(golden[key].tolist() for key in keys), slack, strict=True):
        assert abs(got.pop((query, label)) - score) <= most
    assert not got


def small_model(task="panoptic", seed=0, queries=12, resize=(120, 72)):
    torch.manual_seed(seed)
    architecture = small_architecture(queries=queries)
    model = Mask2Former(architecture, card_of(architecture, task, resize)).eval()
    torch.nn.init.normal_(model.network.class_predictor.weight, std=2)
    return model


@pytest.mark.parametrize("method", [None, "expedit(alpha=5, grid=(4, 4), top_k=6)", "pool(alpha=5, grid=(4, 4))"])
def test_predict_every_task(method):
    image = np.random.default_rng(0).integers(0, 256, (45, 90, 3), dtype=np.uint8)
    for task in ("semantic", "panoptic", "instance"):
        model = small_model(task)
        model = model if method is None else expedit.accelerate(model, method)
        assert isinstance(model, Mask2Former)
        found = expedit.predict(model, Image.fromarray(image))
        assert found.task == task
        if task == "instance":
            assert found.masks.shape == (len(found.segments), 45, 90)
            scores = [segment.score for segment in found.segments]
            assert scores == sorted(scores, reverse=True)
            assert {segment.category for segment in found.segments} <= {0, 1, 2}
        else:
            assert found.labels.shape == (45, 90)
            assert found.labels.dtype == np.int32
        if task == "panoptic":
            assert set(np.unique(found.labels)) - {0} <= {segment.id for segment in found.segments}


def test_protocol_of_the_image():
    """Short side 72 unless the long one would exceed 120; antialiased by Pillow; normalised; zeros up to 32."""
    image = np.random.default_rng(1).integers(0, 256, (45, 90, 3), dtype=np.uint8)
    model, seen = small_model(), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        [(_, _, sizes)] = queries_of(model, [prepared(image, model.card)], [image.shape[:2]], model.card)
    assert sizes == Sizes((64, 128), (60, 120), (45, 90))
    resized_image = np.asarray(Image.fromarray(image).resize((120, 60), Image.Resampling.BILINEAR), np.float32)
    expected = (resized_image - np.array([123.675, 116.28, 103.53])) / np.array([58.395, 57.12, 57.375])
    torch.testing.assert_close(
        seen[0][0, :, :60, :120].permute(1, 2, 0).double(), torch.from_numpy(expected), atol=1e-5, rtol=0
    )
    assert (seen[0][0, :, 60:] == 0).all()
    assert (seen[0][0, :, :, 120:] == 0).all()


def test_batch_mates_do_not_matter():
    model = expedit.accelerate(
        small_model(), "expedit(alpha=5, grid=(4, 4), neighbourhood=3, temperature=1.0, top_k=6)"
    )
    pixels = torch.randn(3, 3, 96, 128)
    with torch.inference_mode():
        together, alone = model(pixels), [model(pixels[i : i + 1]) for i in range(3)]
    for i in range(3):
        for a, b in zip(together, alone[i], strict=True):
            torch.testing.assert_close(a[i], b[0], atol=2e-4, rtol=0)


def test_instances_keep_masks_and_scores_together():
    model = small_model("instance")
    image = np.random.default_rng(2).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    found = expedit.predict(model, image)
    with torch.inference_mode():
        [(classes, small, sizes)] = queries_of(model, [prepared(image, model.card)], [image.shape[:2]], model.card)
        masks = resized(small, sizes)
    expected = []
    for query in range(len(classes)):
        for category in range(3):
            mask = masks[query] > 0
            quality = (masks[query].sigmoid() * mask).sum() / (mask.sum() + 1e-6)
            expected.append((float(classes[query].softmax(0)[category] * quality), category, mask.numpy()))
    expected.sort(key=lambda item: -item[0])
    for segment, mask, (score, category, reference) in zip(found.segments, found.masks, expected, strict=True):
        assert segment.score == pytest.approx(score, abs=1e-6)
        if score > 0:
            assert segment.category == category
            assert np.array_equal(mask, reference)


def test_official_pickle_reports_what_does_not_fit(shared, tmp_path):
    folder = folder_of(shared)
    path = folder / "mask2former_t_baseline_128x192.safetensors"
    architecture = architecture_of(metadata_of(path)["config"])
    state, card = weights_of(folder, "t"), card_of(architecture)
    broken = dict(state)
    del broken["backbone.layers.2.blocks.1.attn.qkv.weight"]
    broken["backbone.something.else"] = torch.zeros(1)
    broken["sem_seg_head.predictor.query_feat.weight"] = torch.zeros(3, 32)
    message = (
        "missing: backbone.layers.2.blocks.1.attn.qkv.weight; unused: backbone.something.else; wrong shape: "
        "sem_seg_head.predictor.query_feat.weight (expected (12, 32), got (3, 32))"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        Mask2Former.from_detectron2(broken, architecture, card)
    with pytest.raises(ValueError, match=r"wrong shape: .*sampling_offsets"):
        Mask2Former.from_detectron2(state, replace(architecture, heads=1), card)
    with pytest.raises(ValueError, match="no published Mask2Former has 7 classes, 12 queries and 16 channels"):
        expedit.load(folder / "mask2former_t_detectron2.pkl")
    with pytest.raises(ValueError, match="points"):
        replace(architecture, points=8)
    cut = tmp_path / "cut.pkl"
    cut.write_bytes((folder / "mask2former_t_detectron2.pkl").read_bytes()[:-1000])
    with pytest.raises(ValueError, match="damaged"):
        expedit.load(cut)
    with (tmp_path / "part.pkl").open("wb") as file:
        pickle.dump({"model": {name: value.numpy() for name, value in list(state.items())[:20]}}, file)
    with pytest.raises(ValueError, match="a Swin without a Mask2Former around it"):
        expedit.load(tmp_path / "part.pkl")


def test_legacy_names(shared):
    """Older files keep the pixel decoder right under the head, and call the query features static."""
    folder = folder_of(shared)
    architecture = architecture_of(metadata_of(folder / "mask2former_t_baseline_128x192.safetensors")["config"])
    state, model = weights_of(folder, "t"), Mask2Former(architecture, card_of(architecture))
    old = {
        name.replace("sem_seg_head.pixel_decoder.", "sem_seg_head.").replace("query_feat", "static_query"): value
        for name, value in state.items()
    }
    assert not any("pixel_decoder" in name or "query_feat" in name for name in old)
    like = model.network.state_dict()
    today, before = converted(state, like), converted(old, like)
    assert all(torch.equal(today[name], before[name]) for name in today)
    assert set(today) == set(like)


def test_own_file_and_folder_round_trip(shared, tmp_path):
    model = small_model("instance")
    pixels = torch.randn(1, 3, 64, 64)
    save(model, tmp_path / "m.safetensors")
    again = expedit.load(tmp_path / "m.safetensors")
    assert asdict(again.architecture) == asdict(model.architecture)
    assert again.card == model.card
    model.network.save_pretrained(tmp_path / "folder")
    with pytest.raises(ValueError, match=r"no preprocessor_config\.json"):
        expedit.load(tmp_path / "folder")  # not published: the library's own processor decides
    with pytest.raises(ValueError, match="not mask2former-swin-l-coco-instance"):
        expedit.load(tmp_path / "folder", architecture="mask2former-swin-l-coco-instance")
    with pytest.raises(ValueError, match="unknown architecture"):
        expedit.load(tmp_path / "folder", architecture="mask2former-swin-x")
    with torch.inference_mode():
        for a, b in zip(model(pixels), again(pixels), strict=True):
            assert torch.equal(a, b)


def test_folder_of_a_published_network(tmp_path, monkeypatch):
    model = small_model("instance", queries=9)
    model.network.save_pretrained(tmp_path)
    monkeypatch.setattr(mask2former, "PUBLISHED", {"small": model.architecture})
    monkeypatch.setattr(mask2former, "published_card", lambda name: model.card)
    again, pixels = expedit.load(tmp_path), torch.randn(1, 3, 64, 64)
    assert again.architecture == model.architecture
    with torch.inference_mode():
        for a, b in zip(model(pixels), again(pixels), strict=True):
            assert torch.equal(a, b)


def test_a_folder_without_all_weights_is_refused(tmp_path, monkeypatch):
    """The library would fill them with noise and say so in a log line only."""
    model = small_model("instance", queries=9)
    model.network.save_pretrained(tmp_path)
    monkeypatch.setattr(mask2former, "PUBLISHED", {"small": model.architecture})
    monkeypatch.setattr(mask2former, "published_card", lambda name: model.card)
    weights = tmp_path / "model.safetensors"
    state = load_file(weights)
    name = next(name for name in state if name.endswith("mask_embedder.0.0.weight"))
    save_file({key: value for key, value in state.items() if key != name}, weights, {"format": "pt"})
    with pytest.raises(ValueError, match=rf"1 are missing: {name}"):
        expedit.load(tmp_path)
    save_file({**state, name: state[name][:-1].contiguous()}, weights, {"format": "pt"})
    with pytest.raises(ValueError, match="the weights cannot be read"):
        expedit.load(tmp_path)
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="the weights cannot be read"):
        expedit.load(tmp_path)


def test_zoo_builds_the_published_networks():
    tasks = {
        "coco-panoptic": (133, 80),
        "coco-instance": (80, 80),
        "ade20k-panoptic": (150, 100),
        "ade20k-semantic": (150, 0),
    }
    for name, (classes, things) in tasks.items():
        model = zoo.build(f"mask2former-swin-l-{name}", "meta")
        assert model.card.task == name.split("-")[1]
        assert len(model.card.classes) == classes
        assert len(model.card.things) == things
        parameters = sum(p.numel() for p in model.parameters())
        assert parameters == pytest.approx(215.5e6, rel=0.005)
    assert model.card.resize == (2560, 640)
    card = mask2former.published_card("mask2former-swin-l-coco-panoptic")
    assert (card.classes[0], card.classes[79], card.classes[80]) == ("person", "toothbrush", "banner")
    assert card.resize == (1333, 800)


def test_ade20k_things(shared):
    categories = json.loads((shared / "data" / "ade20k" / "derived_150" / "panoptic.json").read_text())["categories"]
    card = mask2former.published_card("mask2former-swin-l-ade20k-panoptic")
    assert [category["id"] - 1 for category in categories if category["isthing"]] == list(card.things)
