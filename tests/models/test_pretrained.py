"""Networks of transformers give, through ``load`` and ``predict``, what the library gives."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.oneformer import image_processing_pil_oneformer as oneformer
from transformers.models.zoedepth import image_processing_pil_zoedepth as zoedepth

import expedit
import families
from expedit.data.coco import panoptic_categories
from expedit.data.known_classes import known_classes
from expedit.models.processing import PlainProcessor
from expedit.prediction import Prediction
from families import PROCESSORS, hf, inputs, network, write_folder

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
FEATURES = {
    "dinov2": lambda net, x: net(x).last_hidden_state[0, 1:],
    "dinov2-registers": lambda net, x: net(x).last_hidden_state[0, 5:],
    "dinov2-backbone": lambda net, x: net(x).feature_maps[-1][0].flatten(1).mT,
    "dinov3": lambda net, x: net(x).last_hidden_state[0, 5:],
    "dinov3-backbone": lambda net, x: net(x).feature_maps[-1][0].flatten(1).mT,
    "vit": lambda net, x: net(x).last_hidden_state[0, 1:],
    "clip": lambda net, x: net(x).last_hidden_state[0, 1:],
    "clipseg": lambda net, x: net.clip.vision_model(x).last_hidden_state[0, 1:],
    "siglip": lambda net, x: net(x).last_hidden_state[0],
    "pixio": lambda net, x: net(x).last_hidden_state[0, 3:],
    "pixio-backbone": lambda net, x: net(x).feature_maps[-1][0].flatten(1).mT,
    "sapiens2": lambda net, x: net(x).last_hidden_state[0, 5:],
    "sapiens2-backbone": lambda net, x: net(x).feature_maps[-1][0].flatten(1).mT,
    "sam": lambda net, x: net.get_image_embeddings(x)[0, :, :15].flatten(1).mT,
    "sam-hq": lambda net, x: net.get_image_embeddings(x)[0][0, :, :15].flatten(1).mT,
    "sam2-vision": lambda net, x: net(x).fpn_hidden_states[-1][0].flatten(1).mT,
    "sam3-vision": lambda net, x: net(x).last_hidden_state[0],
}
"""Tokens of the patches ``(n, c)`` by hand."""

GRIDS = {"sapiens2": (8, 6), "sam": (15, 20), "sam2": (16, 16), "pixio": (8, 8), "dinov2": (5, 5)}
"""Lattice of the picture as its processor makes it; 8 x 8 of all others. SAM's is cut to the picture in its square."""

DEPTHS = ("dpt", "depth-anything", "prompt-depth-anything")
SEMANTIC = ("dpt-semantic", "beit", "upernet", "upernet-swin")
QUERIES = ("eomt", "eomt-dinov3", "maskformer", "oneformer")


def resize(image, size, interpolation, antialias=True):
    """As torchvision does with tensors, which it never makes smaller here."""
    whole = image[None] if image.ndim == 3 else image
    return torch.nn.functional.interpolate(whole, size, mode=interpolation, align_corners=False).view(
        *image.shape[:-2], *size
    )


TORCHVISION = SimpleNamespace(resize=resize, InterpolationMode=SimpleNamespace(BICUBIC="bicubic", BILINEAR="bilinear"))


def loaded(name, folder, task=None, **settings):
    """The library's network, and ours of the same weights."""
    made = write_folder(name, folder, **settings)
    return made, expedit.load(folder, task=task)


def prepared(name):
    """What the library's own processor makes of the picture."""
    kind, settings = PROCESSORS[name]
    return getattr(hf, kind)(**settings)(Image.fromarray(IMAGE), return_tensors="pt")["pixel_values"]


@pytest.mark.parametrize("name", FEATURES)
@torch.inference_mode()
def test_features_are_the_tokens_of_the_patches(name, tmp_path):
    made, model = loaded(name, tmp_path)
    found = expedit.predict(model, IMAGE)
    pixels = model.prepared(IMAGE)["pixel_values"]
    grid = next((grid for key, grid in GRIDS.items() if name.split("-")[0] == key), (8, 8))
    assert found.task == "features"
    assert found.features.shape[:2] == grid
    assert found.features.dtype == np.float32
    if isinstance(model.processor, PlainProcessor):
        assert pixels.shape[2:] == tuple(PROCESSORS[name][1]["size"][side] for side in ("height", "width"))
    else:
        assert torch.equal(pixels, prepared(name))
    assert torch.equal(torch.from_numpy(found.features).flatten(0, 1), FEATURES[name](made, pixels))


@pytest.mark.parametrize("name", DEPTHS)
@torch.inference_mode()
def test_depth_is_the_librarys(name, tmp_path):
    made, model = loaded(name, tmp_path)
    kind, settings = PROCESSORS[name]
    processor = getattr(hf, kind)(**settings)
    out = made(**processor(Image.fromarray(IMAGE), return_tensors="pt"))
    [expected] = processor.post_process_depth_estimation(out, target_sizes=[(90, 120)])
    found = expedit.predict(model, IMAGE)
    assert found.depth.dtype == np.float32
    assert np.array_equal(found.depth, expected["predicted_depth"].numpy())
    assert found.depth.std() > 0
    assert found.depth_kind == model.card.depth == ("metric" if name.startswith("prompt") else "inverse")


@torch.inference_mode()
def test_zoedepth_without_torchvision(tmp_path, monkeypatch):
    """The library reads its depth by torchvision's resize, which for tensors is torch's own."""
    made, model = loaded("zoedepth", tmp_path)
    monkeypatch.setattr(zoedepth, "tvF", TORCHVISION, raising=False)
    out, sizes = made(prepared("zoedepth")), [(90, 120)]
    [expected] = model.processor.post_process_depth_estimation(out, source_sizes=sizes, target_sizes=sizes)
    assert np.array_equal(expedit.predict(model, IMAGE).depth, expected["predicted_depth"].numpy())


@pytest.mark.parametrize("name", SEMANTIC)
@torch.inference_mode()
def test_classes_of_pixels_are_the_librarys(name, tmp_path):
    made, model = loaded(name, tmp_path)
    pixels = model.prepared(IMAGE)["pixel_values"]
    if name == "dpt-semantic":  # every class shall be best somewhere
        mean = made(pixels).logits.mean((0, 2, 3))
        for net in (made, model.network):
            net.head.head[4].bias.sub_(mean)
    logits = made(pixels).logits
    [expected] = hf.BeitImageProcessor().post_process_semantic_segmentation(SimpleNamespace(logits=logits), [(90, 120)])
    found = expedit.predict(model, IMAGE)
    assert found.classes == tuple(families.IDS.values())
    assert len(np.unique(found.labels)) > 1
    assert np.array_equal(found.labels, expected.numpy())


def confident(made, model):
    """Both networks so sure of their classes and masks that queries become segments."""
    for net in (made, model.network):
        for key, parameter in net.named_parameters():
            if any(part in key for part in ("class_predictor", "class_embed", "mask_head.fc3", "queries_embedder")):
                parameter.data.mul_(40)


def only_the_surest(made, model, logits):
    """All queries but one become nothing: random masks take so much from one another that no segment would stay."""
    margin = (logits[:, :-1].amax(1) - logits[:, -1]).sort().values
    for net in (made, model.network):
        net.model.transformer_module.decoder.class_embed.bias.data[-1] += margin[-2:].mean()


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
@pytest.mark.parametrize("name", QUERIES)
@torch.inference_mode()
def test_queries_are_decided_by_the_librarys_processor(name, task, tmp_path, monkeypatch):
    made, model = loaded(name, tmp_path, task)
    confident(made, model)
    kind, settings = PROCESSORS[name]
    processor = getattr(hf, kind)(**settings, **({"class_info_file": ""} if name == "oneformer" else {}))
    batch = processor([Image.fromarray(IMAGE)], return_tensors="pt")
    fed = {"pixel_values": batch["pixel_values"]}
    if name == "oneformer":
        fed |= {"task_inputs": model.task_inputs, "pixel_mask": batch["pixel_mask"]}
    if "pixel_mask" in batch and name == "maskformer":
        fed["pixel_mask"] = batch["pixel_mask"]
    if (name, task) == ("oneformer", "panoptic"):
        only_the_surest(made, model, made(**fed).class_queries_logits[0])
    out = made(**fed)
    if name == "oneformer":
        monkeypatch.setattr(oneformer, "tvF", TORCHVISION, raising=False)
    [expected] = getattr(processor, f"post_process_{task}_segmentation")(out, target_sizes=[(90, 120)])
    monkeypatch.undo()
    found = expedit.predict(model, IMAGE)
    assert (found.task, model.card.output) == (task, "queries")
    if task == "semantic":
        assert np.array_equal(found.labels, expected.numpy())
        return
    places, theirs = expected["segmentation"].numpy(), expected["segments_info"]
    assert len(found.segments) == len(theirs) > 0
    ranked = theirs if task == "panoptic" else sorted(theirs, key=lambda s: -s["score"])
    for segment, other in zip(found.segments, ranked, strict=True):
        mask = found.labels == segment.id if task == "panoptic" else found.masks[segment.id]
        assert np.array_equal(mask, places == other["id"])
        assert segment.category == other["label_id"]
        assert segment.score == pytest.approx(other["score"], abs=2e-6)


@torch.inference_mode()
def test_a_network_that_splits_images_is_semantic(tmp_path):
    size = {"shortest_edge": 64, "longest_edge": None}
    made, model = loaded("eomt", tmp_path, do_split_image=True, do_pad=False, size=size)
    assert model.card.task == "semantic"
    batch = model.processor([Image.fromarray(IMAGE)], return_tensors="pt")
    assert len(batch["pixel_values"]) == 2
    out = made(**batch)
    [expected] = model.processor.post_process_semantic_segmentation(out, target_sizes=[(90, 120)])
    assert np.array_equal(expedit.predict(model, IMAGE).labels, expected.numpy())


def test_the_pipelines_of_the_library_give_the_same(tmp_path):
    made, model = loaded("depth-anything", tmp_path)
    pipe = hf.pipeline("depth-estimation", model=made, image_processor=model.processor)
    assert np.array_equal(pipe(Image.fromarray(IMAGE))["predicted_depth"].numpy(), expedit.predict(model, IMAGE).depth)
    made, model = loaded("eomt", tmp_path / "eomt")
    confident(made, model)
    pipe = hf.pipeline("image-segmentation", model=made, image_processor=model.processor, subtask="panoptic")
    found, theirs = expedit.predict(model, IMAGE), pipe(Image.fromarray(IMAGE), threshold=0.8)
    assert len(theirs) == len(found.segments) > 0
    for segment, other in zip(found.segments, theirs, strict=True):
        assert np.array_equal(found.labels == segment.id, np.array(other["mask"]) > 0)
        assert found.classes[segment.category] == other["label"]


def test_classes_of_a_published_list_bring_their_things_and_colours(tmp_path, monkeypatch):
    """Of COCO's panoptic classes the first 80 are things."""
    assert known_classes(["person", "bicycle", "car", *(f"thing {i}" for i in range(130))]) is None
    listed = panoptic_categories()
    spelt = {i: name.upper() if i % 3 else "something else" for i, name in enumerate(listed.names)}
    monkeypatch.setattr(families, "IDS", spelt)
    write_folder("eomt", tmp_path)
    card = expedit.load(tmp_path).card
    assert (card.classes, card.palette, card.things) == (listed.names, listed.palette, listed.things)


def test_the_preparation_that_replaces_torchvisions(tmp_path):
    """Against Pillow, which resizes fp32 channels by the same antialiased filter."""
    _, settings = PROCESSORS["dinov3"]
    pixels = PlainProcessor.of({**settings, "rescale_factor": 1 / 255})(Image.fromarray(IMAGE))["pixel_values"][0]
    for place, (mean, std) in enumerate(zip(settings["image_mean"], settings["image_std"], strict=True)):
        channel = Image.fromarray(IMAGE[..., place].astype(np.float32) / 255)
        resized = np.asarray(channel.resize((64, 64), Image.Resampling.BILINEAR))
        assert np.abs((resized - mean) / std - pixels[place].numpy()).max() < 2e-3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "size"),
        ({"size": {"shortest_edge": 64}}, "size"),
        ({"size": 64, "do_pad": True}, "do_pad"),
        ({"size": 64, "resample": 0}, "resample"),
    ],
)
def test_a_preparation_that_does_more_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        PlainProcessor.of(settings)


def test_features_at_another_size(tmp_path):
    """The whole picture, without the crop, at multiples of the patch; networks with fixed heads refuse."""
    write_folder("dinov2", tmp_path)
    model = expedit.load(tmp_path, size=112)
    assert model.prepared(IMAGE)["pixel_values"].shape == (1, 3, 112, 154)
    assert expedit.predict(model, IMAGE).features.shape == (8, 11, 32)
    assert expedit.predict(expedit.load(tmp_path, size=(56, 98)), IMAGE).features.shape == (4, 7, 32)
    with pytest.raises(ValueError, match="at least one patch of 14"):
        expedit.load(tmp_path, size=13)
    write_folder("vit", tmp_path / "vit")
    assert expedit.predict(expedit.load(tmp_path / "vit", size=96), IMAGE).features.shape == (12, 16, 32)
    write_folder("dpt", tmp_path / "dpt")
    with pytest.raises(ValueError, match="DPT takes images as its processor"):
        expedit.load(tmp_path / "dpt", size=96)


def test_the_network_alone_takes_pixels(tmp_path):
    """What is counted and timed."""
    for name in ("oneformer", "sam", "vit"):
        _, model = loaded(name, tmp_path / name)
        with torch.inference_mode():
            out = model(torch.randn(2, 3, *model.size))
        assert all(len(value) == 2 for value in out.values() if isinstance(value, torch.Tensor))


def test_a_result_needs_the_array_of_its_task():
    for task, name in (("depth", "depth"), ("features", "features"), ("semantic", "labels")):
        with pytest.raises(ValueError, match=f"a {task} result needs {name} of shape"):
            Prediction(task, (), (), **{name: np.zeros(3)})


def test_random_networks_differ_from_their_initial_weights():
    """A network of zeros would make every comparison above pass."""
    with torch.inference_mode():
        out = network("dinov2")(**inputs("dinov2")).last_hidden_state
    assert out.std() > 0.1
