"""Video Mask2Former: networks and whole clips against the official ones, windows, and official files."""

import itertools
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import expedit
from expedit.checkpoints import mask2former, zoo
from expedit.checkpoints.safetensors_format import save
from expedit.data.rle import encode
from expedit.data.youtubevis import CLASSES
from expedit.models.detectron2 import OWN, official_name
from expedit.models.video_mask2former import VideoMask2Former, blocked_keys, encoding, mask_logits, positions
from expedit.prediction import Segment
from expedit.video import Tracklet, Tracks, linked, predict_video, track, tube_iou
from golden_mask2former import folder_of, golden_model
from small_video import clip, small_model

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("name", ["T2_128x128", "T3_96x160", "T2_hourglass_loc6_96x128"])
def test_network_golden(shared, name):
    folder = folder_of(shared)
    path = folder / f"video_a_{name}.safetensors"
    golden = load_file(path)
    model, config = golden_model(folder, path, VideoMask2Former, task="video")
    assert isinstance(model, VideoMask2Former)
    with torch.inference_mode():
        maps = model.backbone(golden["input.frames"]).feature_maps
        frames = model.features(golden["input.frames"])
        rounds = [model.read(queries) for queries in model.rounds(frames)]
        together, one_by_one = model(golden["input.frames"]), model(golden["input.frames"], frame_batch=1)
    for level, feature_map in enumerate(maps):
        torch.testing.assert_close(feature_map, golden[f"output.res{level + 2}"], atol=1e-4, rtol=0)
    for level in range(3):
        feature_map = torch.stack([frame.levels[level] for frame in frames])
        torch.testing.assert_close(feature_map, golden[f"output.multi_scale.{level}"], atol=1e-4, rtol=0)
    masks = torch.stack([frame.masks for frame in frames])
    torch.testing.assert_close(masks, golden["output.mask_features"], atol=1e-4, rtol=0)
    assert len(rounds) == config["decoder_layers"] + 1
    for layer, (classes, embeddings) in enumerate(rounds[:-1]):
        tubes = torch.stack([mask_logits(embeddings, frame) for frame in frames], 1)[None]
        torch.testing.assert_close(classes[None], golden[f"output.auxiliary_class_logits.{layer}"], atol=2e-4, rtol=0)
        torch.testing.assert_close(tubes, golden[f"output.auxiliary_mask_logits.{layer}"], atol=5e-4, rtol=0)
    for classes, tubes in (together, one_by_one):
        torch.testing.assert_close(classes, golden["output.class_logits"], atol=2e-4, rtol=0)
        torch.testing.assert_close(tubes, golden["output.mask_logits"], atol=5e-4, rtol=0)


@pytest.mark.parametrize("name", ["T3", "T2_hourglass"])
def test_prediction_golden(shared, name):
    """The official pixels are floats of the network's own size, so resizing is left to the end of the protocol."""
    folder = folder_of(shared)
    path = folder / f"video_a_{name}_predictions.safetensors"
    golden = load_file(path)
    model, config = golden_model(folder, path, VideoMask2Former, task="video")
    frames = golden["input.frames"]
    mean, std = (torch.tensor(config[f"pixel_{key}"])[:, None, None] for key in ("mean", "std"))
    (h, w), padded, output = config["size"], tuple(config["padded"]), tuple(config["output_size"])
    pixels = torch.zeros(len(frames), 3, *padded)
    pixels[:, :, :h, :w] = (frames - mean) / std
    sizes = expedit.video.Sizes(padded, (h, w), output)
    with torch.inference_mode():
        found = expedit.video.decoded(model, model.features(pixels), sizes)
    assert len(found) == config["instances_top_k"] == model.card.instances
    scores = [thread.score for thread in found]
    assert scores == sorted(scores, reverse=True)
    np.testing.assert_allclose(scores, golden["output.scores"], atol=1e-4, rtol=0)
    assert [thread.category for thread in found] == golden["output.labels"].tolist()
    for thread, masks, ambiguous in zip(found, golden["output.masks"], golden["aux.ambiguous_pixels"], strict=True):
        for rle, mask, doubtful in zip(thread.masks, masks.bool().numpy(), ambiguous.tolist(), strict=True):
            got = np.zeros_like(mask) if rle is None else expedit.video.decode(rle)
            assert (got != mask).sum() <= doubtful


def test_three_dimensional_positions():
    """Spec g.2, literally: sin on even and cos on odd channels; time has all of them, rows and columns half each."""
    frames, h, w, channels = 3, 2, 4, 16
    found = positions(frames, h, w, channels, torch.device("cpu")).reshape(frames, h, w, channels)
    for t, y, x, c in itertools.product(range(frames), range(h), range(w), range(channels)):

        def wave(place, length, channel, width):
            angle = (place + 1) / (length + 1e-6) * 2 * np.pi / 10000 ** (2 * (channel // 2) / width)
            return np.cos(angle) if channel % 2 else np.sin(angle)

        space = wave(y, h, c, 8) if c < 8 else wave(x, w, c - 8, 8)
        assert found[t, y, x, c] == pytest.approx(space + wave(t, frames, c, 16), abs=1e-5)
    assert encoding(5, 8, torch.device("cpu")).dtype == torch.float32


@pytest.mark.parametrize("method", [None, "expedit(alpha=3, grid=(4, 4), top_k=6)", "pool(alpha=3, grid=(4, 4))"])
@pytest.mark.parametrize("frames", [1, 5])
def test_predict_a_clip(method, frames):
    model = small_model()
    model = model if method is None else expedit.accelerate(model, method)
    video = clip(frames)
    found = expedit.predict(model, video)
    assert (found.task, len(found.segments), found.masks.shape, found.masks.dtype) == (
        "video",
        10,
        (10, frames, 45, 90),
        bool,
    )
    assert [segment.id for segment in found.segments] == list(range(10))
    tracks = track(model, iter(video), frame_batch=2)
    assert [s.category for s in tracks.segments] == [s.category for s in found.segments]
    scores = [segment.score for segment in found.segments]
    assert [s.score for s in tracks.segments] == pytest.approx(scores, abs=1e-4)
    assert scores == sorted(scores, reverse=True)
    assert (tracks.frames, tracks.size) == (frames, (45, 90))
    same = predict_video(model, [Image.fromarray(frame) for frame in video])
    assert np.array_equal(same.masks, found.masks)
    if frames == 1:
        assert np.array_equal(predict_video(model, video[0]).masks, found.masks)


def test_a_clip_is_more_than_its_frames():
    """Queries look over space and time: the tracks of the whole are not those of the parts."""
    model, video = small_model(), torch.randn(4, 3, 64, 96)
    with torch.inference_mode():
        whole, _ = model(video)
        alone, _ = model(video[:2])
        backwards, _ = model(video.flip(0))
    assert (whole - alone).abs().max() > 1e-3
    assert (whole - backwards).abs().max() > 1e-3


def test_empty_masks_look_everywhere():
    embeddings = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    keys = torch.tensor([[1.0, -1.0], [2.0, 3.0], [0.5, 0.0]])
    assert blocked_keys(embeddings, keys).tolist() == [[False] * 3, [False] * 3, [True, False, False]]


def test_half_precision_stays_close():
    model, video = small_model(), torch.randn(3, 3, 64, 96)
    with torch.inference_mode():
        classes, _ = model(video)
        halved, _ = model.to(torch.bfloat16)(video.to(torch.bfloat16))
    assert halved.dtype == torch.bfloat16
    assert torch.isfinite(halved).all()
    assert (halved.float() - classes).abs().mean() < 0.1 * classes.abs().mean()


def tube(*rows):
    """Masks of a 4 x 6 clip, a row of the frame each; ``None``: not seen."""
    masks = []
    for row in rows:
        mask = np.zeros((1, 4, 6), bool)
        if row is not None:
            mask[0, row] = True
        masks.append(None if row is None else encode(mask)[0])
    return tuple(masks)


def test_tube_iou_counts_over_time():
    a, b = [tube(0, 1, None), tube(3, 3, 3)], [tube(0, 2, None), tube(None, None, None)]
    np.testing.assert_allclose(tube_iou(a, b), [[1 / 3, 0], [0, 0]])
    np.testing.assert_allclose(tube_iou(a, a), np.eye(2))


def test_windows_are_linked():
    known = [
        Tracklet(0, (0.9,), tube(0, 0, 0)),
        Tracklet(1, (0.8,), tube(1, 1, 1)),
        Tracklet(2, (0.2,), tube(2, 2, None)),
    ]
    found = [
        Tracklet(1, (0.6,), tube(1, 2, 3)),  # goes on with the second: 1 of 2 frames would be too little, IoU 1/3
        Tracklet(0, (0.5,), tube(0, 0, 1)),  # goes on with the first
        Tracklet(0, (0.4,), tube(0, 0, 2)),  # fits the first as well, but that one is taken
        Tracklet(2, (0.3,), tube(0, 0, 0)),  # covers the first, but is of another class
    ]
    threads = linked(known, found, start=1)
    assert all(len(thread.masks) == 4 for thread in threads)
    got = {(thread.category, thread.scores): thread.masks for thread in threads}
    assert got[0, (0.9, 0.5)] == tube(0, 0, 0, 1)
    assert got[1, (0.8,)] == tube(1, 1, 1, None)
    assert got[2, (0.2,)] == tube(2, 2, None, None)
    assert got[1, (0.6,)] == tube(None, 1, 2, 3)
    assert got[0, (0.4,)] == tube(None, 0, 0, 2)
    assert got[2, (0.3,)] == tube(None, 0, 0, 0)
    assert len(got) == len(threads) == 6


@pytest.mark.parametrize(("window", "overlap", "expected"), [
    (4, 2, [(0, 4), (2, 6), (4, 8), (5, 9)]),
    (4, None, [(0, 4), (3, 7), (5, 9)]),
    (9, 3, [(0, 9)]),
    (50, 3, [(0, 9)]),
    (None, None, [(0, 9)]),
])  # fmt: skip
def test_windows_cover_the_clip_and_the_backbone_sees_frames_once(monkeypatch, window, overlap, expected):
    model, video, spans, images = small_model(resize=(64, 32)), clip(9, 20, 30), [], []
    monkeypatch.setattr(expedit.video, "decoded", lambda m, frames, sizes: spans.append(len(frames)) or threads(frames))
    monkeypatch.setattr(
        expedit.video, "linked", lambda known, found, start: starts.append(start) or [*known, *found][:1]
    )
    starts = []

    def threads(frames):
        return [Tracklet(0, (0.5,), (None,) * len(frames))]

    model.backbone.register_forward_hook(lambda module, inputs, output: images.append(len(inputs[0])))
    seen = []
    expedit.video.track(model, video, frame_batch=2, window=window, overlap=overlap, progress=seen.append)
    assert [(start, start + length) for start, length in zip(starts, spans, strict=True)] == expected
    assert images == [2, 2, 2, 2, 1]
    assert seen == list(range(1, 10))


def test_a_window_that_holds_the_clip_changes_nothing():
    model, video = small_model(), clip(4)
    whole, windowed = track(model, video), track(model, video, window=4, overlap=1)
    assert whole == windowed
    again = track(model, video, window=3, overlap=2)
    assert again.frames == 4
    assert all(len(masks) == 4 for masks in again.masks)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 1}, "windows of at least 2 frames"),
        ({"window": 4, "overlap": 4}, "share some, not all, got 4 and 4"),
        ({"overlap": 2}, "give a window, too"),
        ({"frame_batch": 0}, "frame_batch: expected at least 1 frame"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        track(small_model(), clip(2), **settings)


def test_frames_that_do_not_fit_are_named(tmp_path):
    model, video = small_model(), clip(3)
    with pytest.raises(ValueError, match=r"frame 2: expected \(45, 90\) pixels .* like frame 0, got \(44, 90\)"):
        track(model, [video[0], video[1], video[2][:44]])
    with pytest.raises(ValueError, match=r"frame 1: image: expected \(H, W, 3\) uint8 RGB, got"):
        track(model, [video[0], video[1].astype(np.float32)])
    with pytest.raises(ValueError, match="at least one frame"):
        track(model, [])
    with pytest.raises(ValueError, match="expected a model for videos, got Segmenter"):
        track(expedit.load("segmenter-mini"), video)


def test_colours_and_names_stay_with_their_tracks():
    segments = (Segment(0, 1, 0.9), Segment(1, 1, 0.6), Segment(2, 0, 0.2))
    masks = (tube(0, None, 2), tube(1, 1, None), tube(None, 3, 3))
    tracks = Tracks(("cat", "dog"), ((1, 2, 3), (4, 5, 6)), segments, masks, (4, 6), 3)
    assert len(set(tracks.colors)) == 3
    for frame in range(3):
        picture = tracks.picture(frame, least=0.5)
        assert [picture.classes[s.category] for s in picture.segments] == ["0 dog", "1 dog"]
        assert [picture.palette[s.category] for s in picture.segments] == list(tracks.colors[:2])
        assert [mask.any() for mask in picture.masks] == [masks[i][frame] is not None for i in range(2)]
    assert tracks.prediction().masks.sum() == 6 * 6
    assert np.array_equal(tracks.prediction().masks[:, 1], tracks.at(1))


def test_the_published_networks():
    """Spec h: 480 pixels for 2019, 360 for 2021; the weights alone do not tell the two apart."""
    for year, short in ((2019, 480), (2021, 360)):
        name = f"video-mask2former-swin-l-youtubevis-{year}"
        model = zoo.build(name, "meta")
        assert isinstance(model, VideoMask2Former)
        card = model.card
        assert (card.task, card.resize, card.instances, card.classes) == ("video", (1333, short), 10, CLASSES[year])
        assert (model.architecture.queries, model.architecture.window) == (200, 12)
        classes, masks = model(torch.zeros(3, 3, 128, 160, device="meta"))
        assert (classes.shape, masks.shape) == ((1, 200, 41), (1, 200, 3, 32, 40))
    with pytest.raises(ValueError, match=r"fit video-\S+-2019 as well as video-\S+-2021, .*model_final_c5c739\.pkl"):
        mask2former.matching(40, 200, 192)
    with pytest.raises(ValueError, match="no published Mask2Former has 40 classes, 100 queries"):
        mask2former.matching(40, 100, 192)


@pytest.mark.parametrize("given", ["name of the file", "architecture"])
def test_official_files_of_both_years(tmp_path, monkeypatch, given):
    """An official file opens by the name it was published under, or by the architecture that is named."""
    model = small_model()
    published = {f"small-{year}": model.architecture for year in (2019, 2021)}
    monkeypatch.setattr(mask2former, "PUBLISHED", published)
    monkeypatch.setattr(mask2former, "FILES", {"model_final_c5c739.pkl": "small-2019"})
    monkeypatch.setattr(mask2former, "published_card", lambda name: replace(model.card, source=name))
    state = {}
    for name, value in model.network.state_dict().items():
        official, third = official_name(name)
        state.setdefault(official, {})[third] = value
    arrays = {
        name: torch.cat([parts[third] for third in sorted(parts)] if len(parts) > 1 else list(parts.values())).numpy()
        for name, parts in state.items()
        if not name.startswith(OWN)
    }
    path = tmp_path / ("model_final_c5c739.pkl" if given == "name of the file" else "mine.pkl")
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "test"}, protocol=4))
    if given == "architecture":
        with pytest.raises(ValueError, match="small-2019 as well as small-2021"):
            expedit.load(path)
    again = expedit.load(path) if given == "name of the file" else expedit.load(path, architecture="small-2021")
    assert isinstance(again, VideoMask2Former)
    assert again.card.source == ("small-2019" if given == "name of the file" else "small-2021")
    pixels = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        for a, b in zip(model(pixels), again(pixels), strict=True):
            assert torch.equal(a, b)


def test_own_file_round_trip(tmp_path):
    model, pixels = small_model(), torch.randn(2, 3, 64, 64)
    save(model, tmp_path / "m.safetensors")
    again = expedit.load(tmp_path / "m.safetensors")
    assert isinstance(again, VideoMask2Former)
    assert again.card == model.card
    with torch.inference_mode():
        for a, b in zip(model(pixels), again(pixels), strict=True):
            assert torch.equal(a, b)
