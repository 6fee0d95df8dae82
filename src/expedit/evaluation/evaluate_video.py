"""A video model over the clips of a data set, on one process or many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from ..data.samples import VideoClip
from ..data.youtubevis import VideoFiles
from ..models.video_mask2former import FRAME_BATCH
from ..video import Tracks, track
from .objects import ObjectEvaluation, evaluate_objects
from .processes import Processes
from .resume import Journal


def evaluate_video(
    model: nn.Module,
    clips: VideoFiles,
    *,
    frame_batch: int = FRAME_BATCH,
    window: int | None = None,
    overlap: int | None = None,
    limit: int | None = None,
    submission: Path | None = None,
    processes: Processes | None = None,
    journal: Journal | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ObjectEvaluation | None:
    """Track the things in the clips of a data set; score them where the ground truth is known.

    Args:
        model: a video model, possibly accelerated, on its device.
        clips: from ``open_youtubevis``; without annotations there are no figures, only the submission.
        frame_batch, window, overlap: as for ``expedit.video.track``; published are whole clips.
        limit: only the first so many clips.
        submission: folder for ``results.json`` and ``results.zip``, which the server takes.
        processes: those that share the work: process r takes every world-th clip from r on.
        journal: state on disk, to write and to go on from.
        progress: called with clips done and clips to do in this process.

    Returns:
        The figures in the first process, clips counted as images; ``None`` in the others.

    Raises:
        ValueError: as for ``evaluate_objects``; a frame that is broken or has another size is named.
    """

    def find(network: nn.Module, clip: VideoClip, _: None) -> Tracks:
        return track(network, clip.frames, frame_batch=frame_batch, window=window, overlap=overlap)

    return evaluate_objects(
        model,
        clips,
        prepare=lambda clip, card: None,  # frames are prepared one by one
        find=find,
        limit=limit,
        workers=1,  # a clip's frames are decoded while the model works on those before
        submission=submission,
        processes=processes,
        journal=journal,
        progress=progress,
    )
