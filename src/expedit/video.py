"""One clip through one video model: frames one by one, queries over all of them, tracks as run lengths.

A clip runs as a whole, as published, unless windows are asked for: these overlap, and tracks that cover one another
where they do become one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from .data.class_list import Color
from .data.rle import Rle, decode, encode
from .data.video_files import of_one_size, open_video, reading
from .models.card import Card, distinct_colors
from .models.postprocess import Sizes, best_pairs, resized
from .models.video_mask2former import FRAME_BATCH, FrameFeatures, VideoMask2Former, mask_logits
from .prediction import Prediction, Segment
from .prepare import pixels_of, prepared

Frame = str | Path | Image.Image | np.ndarray
Masks = tuple[Rle | None, ...]
"""A track: its mask in every frame, ``None`` where it is not seen."""

LINK_IOU = 0.5
"""Overlap from which on two tracks of neighbouring windows are one."""


@dataclass(frozen=True)
class Tracks:
    """What a model finds in a clip, small enough for clips of any length.

    Attributes:
        classes: class names by index.
        palette: RGB colours by class index.
        segments: the tracks by falling score; ``id`` is the place in ``masks``.
        masks: of every track in every frame, as run lengths.
        size: (height, width) of the frames in pixels.
        frames: how many.
    """

    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    segments: tuple[Segment, ...]
    masks: tuple[Masks, ...]
    size: tuple[int, int]
    frames: int

    def at(self, frame: int) -> np.ndarray:
        """Masks ``(tracks, H, W)`` bool in one frame."""
        masks = np.zeros((len(self.masks), *self.size), bool)
        for place, track in enumerate(self.masks):
            if (rle := track[frame]) is not None:
                masks[place] = decode(rle)
        return masks

    def picture(self, frame: int, least: float = 0.0) -> Prediction:
        """One frame's tracks as instances that ``draw.segments`` can draw, every track a class with its own colour.

        Tracks of a lower score than ``least`` are left out. Names and colours are the same in every frame.
        """
        names = tuple(f"{segment.id} {self.classes[segment.category]}" for segment in self.segments)
        shown = [segment for segment in self.segments if segment.score >= least]
        segments = tuple(Segment(place, segment.id, segment.score) for place, segment in enumerate(shown))
        masks = self.at(frame)[[segment.id for segment in shown]]
        return Prediction("instance", names, self.colors, segments=segments, masks=masks)

    @property
    def colors(self) -> tuple[Color, ...]:
        """RGB of every track, 0..255."""
        return distinct_colors(len(self.segments))

    def prediction(self) -> Prediction:
        """The same with all masks as one array ``(tracks, frames, H, W)`` bool, which long clips have no room for."""
        masks = np.zeros((len(self.masks), self.frames, *self.size), bool)
        for frame in range(self.frames):
            masks[:, frame] = self.at(frame)
        return Prediction("video", self.classes, self.palette, segments=self.segments, masks=masks)


def predict_video(
    model: nn.Module,
    video: str | Path | Frame | Iterable[Frame],
    *,
    frame_batch: int = FRAME_BATCH,
    window: int | None = None,
    overlap: int | None = None,
) -> Prediction:
    """Tracks of a clip with all their masks; see ``track``, which needs less memory and knows the other arguments.

    Args:
        model: from ``expedit.load``, or that model accelerated.
        video: a video file, a folder of frames, frames, an array ``(T, H, W, 3)`` uint8 RGB, or a single frame.
        frame_batch, window, overlap: as for ``track``.
    """
    frames: Iterable[Frame]
    if isinstance(video, (str, Path)):
        frames = open_video(Path(video))
    elif isinstance(video, Image.Image) or (isinstance(video, np.ndarray) and video.ndim == 3):
        frames = [video]
    else:
        frames = video
    return track(model, frames, frame_batch=frame_batch, window=window, overlap=overlap).prediction()


@torch.inference_mode()
def track(
    model: nn.Module,
    frames: Iterable[Frame],
    *,
    frame_batch: int = FRAME_BATCH,
    window: int | None = None,
    overlap: int | None = None,
    progress: Callable[[int], object] = lambda done: None,
) -> Tracks:
    """Find the tracks of a clip by the protocol of the model's card.

    The frames are read once, one after the other. Backbone and pixel decoder see ``frame_batch`` of them at a time.
    What they make of a frame is kept for the queries: that memory grows with the clip, or is that of one window.

    Args:
        model: a ``VideoMask2Former``, possibly accelerated.
        frames: all of one size.
        frame_batch: frames that run through the backbone together.
        window: frames that the queries see at once; ``None`` for the whole clip.
        overlap: frames that neighbouring windows share, by default a quarter of the window.
        progress: called with the number of frames that have passed the backbone.

    Returns:
        The best (query, class) pairs, scored by their class. With windows a track's score is the mean over the
        windows it is seen in.

    Raises:
        ValueError: no video model, no frame, or a frame that cannot be read or has another size; it is named.
    """
    if not isinstance(model, VideoMask2Former):
        raise ValueError(f"expected a model for videos, got {type(model).__name__}")
    step = _step(window, overlap)
    held: deque[FrameFeatures] = deque(maxlen=window)
    tracklets: list[Tracklet] = []
    seen = fresh = 0
    with clip_features(model, frames, frame_batch) as (sizes, features):
        for frame in features:
            held.append(frame)
            seen, fresh = seen + 1, fresh + 1
            progress(seen)
            if len(held) == window and fresh >= (step if seen > window else window):
                tracklets, fresh = linked(tracklets, decoded(model, held, sizes), seen - len(held)), 0
    if fresh:
        tracklets = linked(tracklets, decoded(model, held, sizes), seen - len(held))
    tracklets.sort(key=lambda tracklet: -tracklet.score)
    card: Card = model.card
    segments = tuple(Segment(place, tracklet.category, tracklet.score) for place, tracklet in enumerate(tracklets))
    return Tracks(
        card.classes, card.palette, segments, tuple(tracklet.masks for tracklet in tracklets), sizes.output, seen
    )


def _step(window: int | None, overlap: int | None) -> int:
    """Frames by which windows are apart."""
    if window is None:
        if overlap is not None:
            raise ValueError("overlap: windows share frames, and this clip runs as a whole; give a window, too")
        return 0
    overlap = max(window // 4, 1) if overlap is None else overlap
    if window < 2 or not 1 <= overlap < window:
        raise ValueError(f"expected windows of at least 2 frames that share some, not all, got {window} and {overlap}")
    return window - overlap


@contextmanager
def clip_features(
    model: VideoMask2Former, frames: Iterable[Frame], frame_batch: int
) -> Iterator[tuple[Sizes, Iterator[FrameFeatures]]]:
    """The sizes of a clip's frames, those of the first, and what the queries see of every frame.

    Frames are decoded in a thread while the model works on those before; it and the video are closed with the block.
    """
    if frame_batch < 1:
        raise ValueError(f"frame_batch: expected at least 1 frame, got {frame_batch}")
    with closing(of_one_size(_pictures(frames))) as pictures, ThreadPoolExecutor(1) as reader:
        first = next(pictures, None)
        if first is None:
            raise ValueError("expected a clip with at least one frame, got none")
        card = model.card
        h, w = prepared(first, card)[0].shape[2:]
        pad = -h % card.multiple, -w % card.multiple
        rest = chain((first,), pictures)
        weight = next(model.parameters())

        def some() -> list[Tensor]:
            return [prepared(picture, card)[0] for picture in islice(rest, frame_batch)]

        def run() -> Iterator[FrameFeatures]:
            coming = reader.submit(some)
            while views := coming.result():
                coming = reader.submit(some)
                pixels = F.pad(torch.cat(views), (0, pad[1], 0, pad[0]))
                yield from model.features(pixels.to(weight.device, weight.dtype))

        yield Sizes((h + pad[0], w + pad[1]), (h, w), (first.shape[0], first.shape[1])), run()


def _pictures(frames: Iterable[Frame]) -> Generator[tuple[str, np.ndarray], None, None]:
    with reading(frames) as opened:
        for index, frame in enumerate(opened):
            name = f"frame {index}"
            try:
                yield name, pixels_of(frame)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None


@dataclass(frozen=True)
class Tracklet:
    """A track while windows are linked: class, a score per window, masks from the first frame of the clip on."""

    category: int
    scores: tuple[float, ...]
    masks: Masks

    @property
    def score(self) -> float:
        """Mean over the windows."""
        return sum(self.scores) / len(self.scores)


def decoded(model: VideoMask2Former, frames: Sequence[FrameFeatures], sizes: Sizes) -> list[Tracklet]:
    """The tracks of one window, by falling score; masks frame by frame, so that only their run lengths are held."""
    class_logits, embeddings = model.decode(frames)
    score, category, query = best_pairs(class_logits.float(), model.card.instances)
    queries, place = query.unique(return_inverse=True)
    found: list[list[Rle | None]] = [[] for _ in queries]
    for frame in frames:
        masks = resized(mask_logits(embeddings[queries], frame).float(), sizes) > 0
        inside = masks.flatten(1).any(1).tolist()
        for tube, rle, some in zip(found, encode(masks.cpu().numpy()), inside, strict=True):
            tube.append(rle if some else None)
    rows = zip(category.tolist(), score.tolist(), place.tolist(), strict=True)
    return [Tracklet(c, (s,), tuple(found[p])) for c, s, p in rows]


def linked(known: list[Tracklet], found: Sequence[Tracklet], start: int) -> list[Tracklet]:
    """The tracks of all windows so far and of the next one, whose first frame is frame ``start`` of the clip.

    Tracks of one class are joined, the best overlap first, where their tubes in the shared frames have an IoU of at
    least ``LINK_IOU``. There the masks of the earlier window stay; a track without a partner ends or begins.
    """
    if not known:
        return list(found)
    end = len(known[0].masks)
    iou = tube_iou(
        [tracklet.masks[start:] for tracklet in known], [tracklet.masks[: end - start] for tracklet in found]
    )
    pairs = [(i, j) for i, a in enumerate(known) for j, b in enumerate(found) if a.category == b.category]
    partner: dict[int, int] = {}
    for i, j in sorted(pairs, key=lambda pair: -iou[pair]):
        if iou[i, j] >= LINK_IOU and i not in partner and j not in partner.values():
            partner[i] = j
    absent = Tracklet(0, (), (None,) * len(found[0].masks))
    tracklets = []
    for i, tracklet in enumerate(known):
        other = found[partner[i]] if i in partner else absent
        masks = tracklet.masks + other.masks[end - start :]
        tracklets.append(Tracklet(tracklet.category, tracklet.scores + other.scores, masks))
    fresh = [tracklet for j, tracklet in enumerate(found) if j not in partner.values()]
    return tracklets + [
        Tracklet(tracklet.category, tracklet.scores, (None,) * start + tracklet.masks) for tracklet in fresh
    ]


def tube_iou(a: Sequence[Sequence[Rle | None]], b: Sequence[Sequence[Rle | None]]) -> np.ndarray:
    """IoU ``(len(a), len(b))`` of tubes over the same frames; 0 where both are empty."""
    shared, total = np.zeros((len(a), len(b))), np.zeros((len(a), len(b)))
    for frames_a, frames_b in zip(zip(*a, strict=True), zip(*b, strict=True), strict=True):
        rle = next((rle for rle in (*frames_a, *frames_b) if rle is not None), None)
        if rle is None:
            continue
        pixels = rle["size"][0] * rle["size"][1]
        left, right = (
            np.stack([np.zeros(pixels, np.float32) if rle is None else decode(rle).ravel() for rle in tubes])
            for tubes in (frames_a, frames_b)
        )
        both = left.astype(np.float32) @ right.astype(np.float32).T
        shared += both
        total += left.sum(1)[:, None] + right.sum(1) - both
    return shared / np.maximum(total, 1)
