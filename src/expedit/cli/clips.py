"""``expedit predict MODEL VIDEO…`` for models whose task is video: every path is one clip."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import console
from .options import add_clips
from .outputs import Outputs

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch import nn

    from ..data.video_files import FrameFolder, VideoFile
    from ..video import Tracks

LONG = 150
"""Frames from which on a clip that runs as a whole is worth a remark."""

ONLY = ("fps", "frames", "broken")
"""What only clips have a use for, beside what says how a model goes through one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What only video models have a use for."""
    group = add_clips(parser)
    group.description = "every PATH is a video file, or a folder with the frames of one"
    group.add_argument("--fps", type=rate, metavar="R", help="of the video written (default: as read; folders: 24)")
    group.add_argument("--frames", action="store_true", help="write pictures instead of a video")
    group.add_argument(
        "--broken",
        choices=("refuse", "repeat"),
        default="refuse",
        help="frames that cannot be decoded: refuse the video, or repeat the frame before (default: refuse)",
    )


def rate(text: str) -> float:
    """An argument that is a number of frames per second."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"expected frames per second, above 0 and at most 1000, got {text!r}")
    return value


def run(args: argparse.Namespace, model: nn.Module) -> int:
    """Track things through every clip; a broken one is reported and does not stop the others."""
    from rich.progress import TextColumn

    from ..data.video_files import open_video
    from .progress import Bar

    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its remarks on damaged files; ours name the frame
    args.paths = [Path(path) for path in args.paths]
    for path in args.paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: expected a video, or a folder with the frames of one")
    check_outputs(args)
    failed = 0
    with Bar(TextColumn("{task.fields[pace]}"), to=console.notes()) as progress:
        for path in args.paths:
            try:
                print(one_clip(model, open_video(path, args.broken), args, progress))
            except Exception as error:  # one bad clip never ends the run, whatever is wrong with it
                failed += 1
                for task in progress.task_ids:
                    progress.remove_task(task)
                console.complain("predict", console.sentence(error, path))
    return 2 if failed else 0


def check_outputs(args: argparse.Namespace) -> None:
    """Raise before the work if results would overwrite one another, a clip, or somebody else's files."""
    frames = [frame for path in args.paths if path.is_dir() for frame in path.iterdir()]
    outputs = Outputs(args.overwrite, (*args.paths, *frames, Path(args.model)))
    first: dict[str, Path] = {}
    for path in args.paths:
        name = name_of(path)
        if (other := first.setdefault(name, path)) is not path:
            raise ValueError(
                f"several videos are called {name!r}: results of {other} and {path} would overwrite one another; run "
                "them apart"
            )
        outputs.check_content(args.output / f"{name}.json")
        if not args.frames:
            outputs.check_content(args.output / f"{name}.mp4")
        outputs.check_inside(args.output / (name if args.frames else f"{name}_frames"))


def name_of(path: Path) -> str:
    """What the results of a clip are called."""
    path = path.resolve()
    return path.name if path.is_dir() else path.stem


def one_clip(model: nn.Module, video: VideoFile | FrameFolder, args: argparse.Namespace, progress: Progress) -> str:
    """One clip to NAME.mp4, or NAME/ with pictures, and NAME.json; says what was written and how fast it was made."""
    from ..data.writing import write_json
    from ..video import track

    if args.window is None and (video.stated or 0) > LONG:
        progress.console.print(
            f"{video.path}: {video.stated} frames run as one clip, as published; --window 36 needs less memory"
        )
    start = time.perf_counter()
    task = progress.add_task(f"tracking {video.path.name}", total=video.stated, pace="")

    def advance(done: int) -> None:
        progress.update(task, completed=done, pace=f"{done / (time.perf_counter() - start):.1f} frames/s")

    settings = {"frame_batch": args.frame_batch, "window": args.window, "overlap": args.overlap}
    tracks = track(model, video, progress=advance, **settings)
    tracked = time.perf_counter() - start
    progress.remove_task(task)
    name = name_of(video.path)
    summary = describe(video, tracks, args) | {"seconds": {"tracking": tracked}}
    write_json(args.output / f"{name}.json", summary, indent=1)  # first: it is what took the time
    target = render(video, tracks, args, progress)
    shown = sum(segment.score >= args.min_score for segment in tracks.segments)
    return (
        f"{target} and {name}.json: {tracks.frames} frames, {shown} of {len(tracks.segments)} tracks with a score of "
        f"at least {args.min_score:g}, tracked at {tracks.frames / tracked:.2f} frames/s"
    )


def render(video: VideoFile | FrameFolder, tracks: Tracks, args: argparse.Namespace, progress: Progress) -> Path:
    """Draw the tracks over the frames, which are decoded once more; returns the file or folder written."""
    from ..data.video_files import reading
    from ..data.video_writing import video_writer
    from ..draw import segments

    name = name_of(video.path)
    target: Path = args.output / (name if args.frames else f"{name}.mp4")
    start = time.perf_counter()
    task = progress.add_task(f"drawing {video.path.name}", total=tracks.frames, pace="")
    with video_writer(target, args.fps or video.rate) as write, reading(video) as frames:
        for index, frame in enumerate(frames):
            target = write(segments(frame, tracks.picture(index, args.min_score)))
            pace = (index + 1) / (time.perf_counter() - start)
            progress.update(task, completed=index + 1, pace=f"{pace:.1f} frames/s")
    progress.remove_task(task)
    return target


def describe(video: VideoFile | FrameFolder, tracks: Tracks, args: argparse.Namespace) -> dict[str, Any]:
    """What the JSON says: the clip, and every track with its masks as run lengths, null where it is not seen."""
    height, width = tracks.size
    found = [
        {
            "id": segment.id,
            "class_id": segment.category,
            "name": tracks.classes[segment.category],
            "score": segment.score,
            "color": list(color),
            "segmentations": list(masks),
        }
        for segment, color, masks in zip(tracks.segments, tracks.colors, tracks.masks, strict=True)
    ]
    return {"video": video.path.name, "height": height, "width": width, "frames": tracks.frames,
            "frames_per_second": args.fps or video.rate, "model": args.model, "method": args.method or "dense",
            "task": "video", "tracks": found}  # fmt: skip
