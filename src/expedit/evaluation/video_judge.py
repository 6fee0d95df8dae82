"""What tracks are worth: YouTubeVIS results of every clip, and the average precision of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..data.samples import VideoClip
from ..data.submissions import Entry, track_results, write_video_submission
from ..data.youtubevis import VideoFiles
from ..metrics.video import video_ap
from ..video import Tracks


class VideoJudge:
    """Average precision of tracks; submissions as the server takes them, ``results.json`` and ``results.zip``."""

    def __init__(self, data: VideoFiles, folder: Path | None) -> None:
        self.data, self.folder = data, folder

    def record(self, clip: VideoClip, tracks: Tracks) -> list[Entry]:
        """The results of the clip; ValueError if the tracks are of other frames than the file states."""
        seen, stated = (tracks.frames, *tracks.size), (len(clip.frames), *clip.size)
        if seen != stated:
            raise ValueError(f"{clip.name}: expected {stated} frames, rows and columns, got {seen}")
        categories = [segment.category for segment in tracks.segments]
        scores = [segment.score for segment in tracks.segments]
        return track_results(clip.video_id, tracks.masks, categories, scores, self.data.categories.ids)

    def figures(self, records: Sequence[list[Entry]]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """The twelve figures, 0..1, of the first clips of the data set; none where the ground truth is not public."""
        if not self.data.truth.get("annotations"):
            return {}, {}
        clips = [clip.video_id for clip in self.data.clips[: len(records)]]
        scores = video_ap(self.data.truth, _flat(records), video_ids=clips)
        names = dict(zip(self.data.categories.ids, self.data.classes, strict=True))
        return scores.figures(), {names[category]: {"AP": ap} for category, ap in scores.per_class.items()}

    def submit(self, records: Sequence[list[Entry]]) -> Path | None:
        """All results in one list, and in a zip; returns the path of the zip."""
        return None if self.folder is None else write_video_submission(self.folder, _flat(records))


def _flat(records: Sequence[list[Entry]]) -> list[Entry]:
    return [entry for record in records for entry in record]
