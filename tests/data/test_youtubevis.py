import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from expedit.data.youtubevis import CLASSES, open_clips, open_youtubevis, video_categories


def rle_of(mask):
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def tree(root, place="valid.json", frames=3):
    mask = np.zeros((8, 10), bool)
    mask[2:5, 3:7] = True
    names = [f"clip/{frame:05d}.jpg" for frame in range(0, 5 * frames, 5)]
    content = {
        "videos": [{"id": 2, "height": 8, "width": 10, "length": frames, "file_names": names}],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES[2019])],
        "annotations": [
            {"video_id": 2, "category_id": 8, "segmentations": [rle_of(mask), None, rle_of(~mask)][:frames]}
        ],
    }
    for index, name in enumerate(names):
        path = root / "valid/JPEGImages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 10, 3), 40 * index, np.uint8)).save(path)
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).write_text(json.dumps(content))
    return content, mask


@pytest.mark.parametrize("place", ["valid.json", "valid/instances.json"])
def test_both_layouts(tmp_path, place):
    _, mask = tree(tmp_path, place)
    data = open_youtubevis(tmp_path, "valid")
    assert (len(data), data.classes, len(data.palette)) == (1, CLASSES[2019], 40)
    clip = data[0]
    assert (clip.name, clip.video_id, clip.size, len(clip.frames)) == ("clip", 2, (8, 10), 3)
    assert [int(frame.mean().round()) for frame in clip.frames] == [0, 40, 80]
    [track] = clip.tracks
    assert data.classes[track.category] == "dog"
    assert (track.masks(8, 10) == np.stack([mask, np.zeros_like(mask), ~mask])).all()


def test_both_years_have_forty_classes():
    for year in (2019, 2021):
        categories = video_categories(year)
        assert (len(set(categories.names)), categories.ids, len(set(categories.palette))) == (
            40,
            tuple(range(1, 41)),
            40,
        )
    with pytest.raises(ValueError, match="year: expected 2019 or 2021, got 2020"):
        video_categories(2020)


def test_a_split_without_annotations_opens(tmp_path):
    content, _ = tree(tmp_path)
    del content["annotations"]
    (tmp_path / "valid.json").write_text(json.dumps(content))
    assert open_youtubevis(tmp_path)[0].tracks == ()


def test_real_clips_and_a_missing_frame(shared):
    data = open_clips(shared / "data/video", ["ytvis_style_gt.json"], "")
    assert (len(data), sum(len(data[i].tracks) for i in range(len(data)))) == (21, 25)
    clip = data[0]
    assert clip.name == "blackswan"
    assert clip.frames[0].shape == (480, 854, 3)
    assert clip.tracks[0].masks(480, 854).shape == (10, 480, 854)
    absent = next(clip for clip in data.clips if not data.tree.exists(clip.frames.paths[0]))
    with pytest.raises(FileNotFoundError, match=r"00000\.jpg: no such file"):
        absent.frames[0]


def test_frames_that_do_not_fit_are_named(tmp_path):
    tree(tmp_path)
    frames = open_youtubevis(tmp_path)[0].frames
    Image.new("RGB", (6, 4)).save(tmp_path / "valid/JPEGImages/clip/00005.jpg")
    with pytest.raises(ValueError, match=r"clip/00005\.jpg: expected a frame of \(8, 10\) .* got \(4, 6\)"):
        frames[1]
    (tmp_path / "valid/JPEGImages/clip/00010.jpg").write_bytes(b"\xff\xd8broken")
    with pytest.raises(ValueError, match=r"clip/00010\.jpg"):
        frames[2]
    assert len(open_youtubevis(tmp_path)[0].frames[0]) == 8


DAMAGE = {
    "annotation 1 of video 2: expected 3 segmentations per track": ("annotations", {"segmentations": [None]}),
    "annotation 1 of video 2: expected 3 areas per track": ("annotations", {"areas": [1, None]}),
    "annotation 1 of video 2: expected 3 areas per track, .* got False": ("annotations", {"areas": False}),
    "annotation 1 of video 2: expected polygons or run lengths": ("annotations", {"segmentations": [7, None, None]}),
    "1 of 1 annotations have a category that the file does not list": ("annotations", {"category_id": 99}),
    r"1 of 1 annotations belong to no video .* \(video_id is a word": ("annotations", {"video_id": "2"}),
    "video 2: expected file_names of at least one frame": ("videos", {"file_names": []}),
    "video 2: expected as many file_names as its length says, 7, got 3": ("videos", {"length": 7}),
    "video 2: expected its height and width in pixels": ("videos", {"width": None}),
    "expected videos with an id of their own": ("videos", {"id": None}),
    "expected category .* to have a name": ("categories", {"name": 3}),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_damaged_annotations_are_named(tmp_path, message):
    (key, change), (content, _) = DAMAGE[message], tree(tmp_path)
    content[key][0].update(change)
    (tmp_path / "valid.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"valid\.json: {message}"):
        open_youtubevis(tmp_path)


@pytest.mark.parametrize("junk", [[False], 7, {"a": 1}])
def test_annotations_that_are_no_list_of_objects_are_named(tmp_path, junk):
    content, _ = tree(tmp_path)
    (tmp_path / "valid.json").write_text(json.dumps(content | {"annotations": junk}))
    with pytest.raises(ValueError, match=r"valid\.json: expected a list of objects 'annotations'"):
        open_youtubevis(tmp_path)


def test_a_file_without_videos_is_named(tmp_path):
    tree(tmp_path)
    (tmp_path / "valid.json").write_text("{}")
    with pytest.raises(ValueError, match=r"valid\.json: expected a list of objects 'videos'"):
        open_youtubevis(tmp_path)


def test_a_missing_split_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"valid\.json: no such file \(or valid/instances\.json\)"):
        open_youtubevis(tmp_path)
    with pytest.raises(ValueError, match="split: expected one of train"):
        open_youtubevis(tmp_path, "all")
