"""Video models on the command line and over data sets: evaluate, predict, benchmark, on real frames."""

import json
import shutil
import zipfile

import numpy as np
import pytest

from data_files import opened
from expedit.checkpoints.safetensors_format import save
from expedit.cli import main
from expedit.data.layouts import guess
from expedit.data.rle import encode
from expedit.data.storage import Tree
from expedit.data.video_files import open_video
from expedit.data.youtubevis import CLASSES, open_youtubevis
from expedit.evaluation.evaluate import Run, evaluate
from expedit.evaluation.objects import VideoJudge
from expedit.metrics.video import video_ap
from expedit.prediction import Segment
from expedit.video import Tracks, predict_video
from small_video import small_model, write_clip

pytest.importorskip("transformers")

CLASSES_2019 = CLASSES[2019]


@pytest.fixture(scope="module")
def dataset(shared, tmp_path_factory):
    """Three real clips, four frames each, in the layout and with the 40 classes of YouTubeVIS 2019."""
    root = tmp_path_factory.mktemp("ytvis")
    truth = json.loads((shared / "data/video/ytvis_style_gt.json").read_text())
    videos = [v for v in truth["videos"] if (shared / "data/video" / v["file_names"][0]).is_file()][:3]
    numbers = {video["id"] for video in videos}
    tracks = [track for track in truth["annotations"] if track["video_id"] in numbers]
    for video in videos:
        video["file_names"], video["length"] = video["file_names"][:4], 4
        for number, name in enumerate(video["file_names"]):
            place = root / "valid/JPEGImages" / f"clip{video['id']}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number:05d}.jpg").write_bytes((shared / "data/video" / name).read_bytes())
        video["file_names"] = [f"clip{video['id']}/{number:05d}.jpg" for number in range(4)]
    names = {category["id"]: category["name"] for category in truth["categories"]}
    for item in tracks:
        name = names[item["category_id"]]
        item["category_id"] = 1 + (CLASSES_2019.index(name) if name in CLASSES_2019 else 0)
        for key in ("segmentations", "areas", "bboxes"):
            item[key] = item[key][:4] if key in item else None
        item.pop("bboxes")
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(CLASSES_2019)]
    content = {"videos": videos, "categories": categories, "annotations": tracks}
    (root / "valid.json").write_text(json.dumps(content))
    return root


def test_doctor_knows_the_layout(dataset, tmp_path, capsys):
    assert main(["doctor", "--data", str(dataset)]) == 0
    assert "valid: 3 clips" in capsys.readouterr().out
    assert guess(Tree(dataset), "video").name == "youtubevis-2019"
    broken = tmp_path / "broken"
    shutil.copytree(dataset, broken)
    next(broken.glob("valid/JPEGImages/*/00000.jpg")).write_bytes(b"no picture")
    assert main(["doctor", "--data", str(broken)]) == 2
    assert "00000.jpg" in capsys.readouterr().out


def judged(model, clips, limit=None, submission=None):
    judge = VideoJudge(model.card, clips, submission)
    return evaluate({"model": model}, clips, judge, Run(limit=limit))["model"]


def test_evaluation_end_to_end(dataset, tmp_path):
    model, clips = small_model(names=CLASSES_2019), open_youtubevis(dataset)
    result = judged(model, clips, submission=tmp_path)
    assert result.submission == tmp_path / "results.zip"
    entries = json.loads((tmp_path / "results.json").read_text())
    assert (result.pace.images, len(entries)) == (3, 30)
    expected = []
    for one in clips.clips:
        found = predict_video(model, one.frames)
        for segment, masks in zip(found.segments, found.masks, strict=True):
            rles = [rle if mask.any() else None for rle, mask in zip(encode(masks), masks, strict=True)]
            ids = {"video_id": one.video_id, "category_id": segment.category + 1}
            expected.append({**ids, "segmentations": rles, "score": segment.score})
    assert entries == expected
    found = {name: -1 if value is None else value for name, value in result.scores.overall.items()}
    assert found == video_ap(clips.truth, entries).figures()


def test_evaluation_finds_what_is_there(dataset, monkeypatch):
    """With the true tracks as predictions everything is found; in a limited run only the first clips count."""
    clips = open_youtubevis(dataset)
    place = {id(one.frames): one for one in clips.clips}

    def truth(network, frames, **settings):
        one = place[id(frames)]
        segments = tuple(Segment(i, true.category, 0.9) for i, true in enumerate(one.tracks))
        masks = tuple(tuple(rle for rle in true.segmentations) for true in one.tracks)
        return Tracks(clips.classes, clips.palette, segments, masks, one.size, len(frames))

    monkeypatch.setattr("expedit.evaluation.objects.track", truth)
    for limit in (None, 2):
        result = judged(small_model(names=CLASSES_2019), clips, limit)
        assert result.value == pytest.approx(1)
        assert set(result.scores.per_class) == {
            clips.classes[t.category] for one in clips.clips[:limit] for t in one.tracks
        }


def test_evaluate_without_public_truth(dataset, tmp_path, capsys):
    model = small_model(names=CLASSES_2019)
    save(model, tmp_path / "m.safetensors")
    truth = json.loads((dataset / "valid.json").read_text())
    del truth["annotations"]
    root = tmp_path / "ytvis"
    root.mkdir()
    (root / "valid").symlink_to(dataset / "valid")
    (root / "valid.json").write_text(json.dumps(truth))
    arguments = [str(tmp_path / "m.safetensors"), f"youtubevis-2019:{root}", "--limit", "2", "--frame-batch", "2"]
    output = ["--submission", str(tmp_path / "out"), "--json", str(tmp_path / "scores.json")]
    assert main(["evaluate", *arguments, *output]) == 0
    with zipfile.ZipFile(tmp_path / "out/results.zip") as archive:
        assert archive.namelist() == ["results.json"]
        assert len(json.loads(archive.read("results.json"))) == 20
    said = json.loads((tmp_path / "scores.json").read_text())
    assert (said["task"], said["images"], said.get("AP")) == ("video", 2, None)
    assert "results.zip" in capsys.readouterr().out
    assert main(["evaluate", arguments[0], f"youtubevis-2019:{dataset}", "--limit", "1", "--window", "3"]) == 0
    assert "AP50" in capsys.readouterr().out
    assert main(["evaluate", arguments[0], f"youtubevis-2019:{dataset}", "--flip"]) == 2
    assert main(["evaluate", arguments[0], f"youtubevis-2019:{dataset}", "--compile"]) == 2


RECIPE = """\
title: small
architecture: video-mask2former-swin-l-youtubevis-2019
data: youtubevis-2019
split: val
images: 300
weights: none
measured_at: [4, 64, 96]
rows:
  - {method: dense, settings: released, published: {gflops: 0.2, fps: 4.3, ap: 60}}
  - {method: "expedit(alpha=3, grid=(4, 4), top_k=6)", settings: released, published: {gflops: 0.1, fps: 5, ap: 59}}
"""


def test_comparison_of_a_video_recipe_with_pictures(dataset, tmp_path):
    save(small_model(names=CLASSES_2019), tmp_path / "m.safetensors")
    (tmp_path / "small.yaml").write_text(RECIPE)
    argv = ["compare", tmp_path / "small.yaml", "--weights", tmp_path / "m.safetensors", "--data", dataset]
    argv += ["--limit", 2, "--rounds", 1, "--examples", 1, "--resume", "-o", tmp_path / "out"]
    assert main([str(word) for word in argv]) == 0
    dense, fast = json.loads((tmp_path / "out/table.json").read_text())["rows"]
    clips = open_youtubevis(dataset)
    assert dense["ap"] == judged(small_model(names=CLASSES_2019), clips, 2).value
    assert fast["delta_ap"] == fast["ap"] - dense["ap"]
    assert fast["gmacs"] < dense["gmacs"]
    report = (tmp_path / "out/report.html").read_text()
    assert all(f"<figcaption>{name}</figcaption>" in report for name in ("Picture", "Ground truth", "Prediction"))
    assert len(list((tmp_path / "out/state").iterdir())) == 1


def test_predict_on_the_command_line(dataset, tmp_path, capsys):
    save(small_model(names=CLASSES_2019), tmp_path / "m.safetensors")
    clips = sorted((dataset / "valid/JPEGImages").iterdir())[:2]
    film = write_clip(tmp_path / "film.mp4", [np.array(opened(path)) for path in sorted(clips[0].iterdir())], 5)
    out = tmp_path / "out"
    arguments = ["predict", str(tmp_path / "m.safetensors"), "-o", str(out), "--min-score", "0", "--frame-batch", "2"]
    method = ["-m", "expedit(alpha=3, grid=(4, 4), top_k=6)"]
    assert main([*arguments, *method, str(clips[1]), str(film)]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [f"{clips[1].name}.json", f"{clips[1].name}.mp4", "film.json", "film.mp4"]
    )
    drawn = open_video(out / "film.mp4")
    said = json.loads((out / "film.json").read_text())
    assert (drawn.rate, len(list(drawn)), next(iter(drawn)).shape) == (5, 4, (480, 854, 3))
    assert (said["frames"], said["frames_per_second"], len(said["tracks"])) == (4, 5, 10)
    assert said["method"].startswith("expedit(alpha=3")
    assert all(len(one["segmentations"]) == 4 for one in said["tracks"])
    assert len({tuple(one["color"]) for one in said["tracks"]}) == 10
    assert "4 frames, 10 of 10 tracks" in capsys.readouterr().out
    assert main([*arguments, "--frames", "--fps", "3", str(clips[0])]) == 0
    assert len(list((out / clips[0].name).iterdir())) == 4
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    assert main([*arguments, str(tmp_path / "bad.mp4"), str(film)]) == 2
    printed = capsys.readouterr()
    assert "bad.mp4: expected a video file" in printed.err
    assert "film.mp4 and film.json" in printed.out
    assert main([*arguments, str(film), str(tmp_path / "other/film.mp4")]) == 2
    assert main([*arguments, "--tokens", str(film)]) == 2
    assert main([*arguments, "--compile", str(film)]) == 2


@pytest.mark.parametrize(
    ("year", "clip_size", "iterations", "published"),
    [
        (2019, (28, 480, 832), 4, (8957, 7631)),
        pytest.param(2021, (32, 400, 640), 5, (7159, 6253), marks=pytest.mark.slow),
    ],
)
def test_benchmark_counts_the_published_clips(tmp_path, year, clip_size, iterations, published):
    method = f"expedit(alpha=14, grid=(8, 8), iterations={iterations}, neighbourhood=7, temperature=0.01, top_k=49)"
    name = f"video-mask2former-swin-l-youtubevis-{year}"
    assert main(["benchmark", name, "--macs-only", "-m", method, "--json", str(tmp_path / "b.json")]) == 0
    said = json.loads((tmp_path / "b.json").read_text())
    assert (said["frames"], *said["size"]) == clip_size
    counts = [row["published_convention_gmacs"] for row in said["rows"]]
    assert counts == pytest.approx(published, rel=0.005)
    frames = ["--frames", "1", "--size", "64", "96"]
    assert main(["benchmark", name, "--macs-only", *frames, "--json", str(tmp_path / "b.json")]) == 0
    assert json.loads((tmp_path / "b.json").read_text())["frames"] == 1
