"""Damaged files of every kind: one of our sentences or a result, in time and within memory.

A few seconds each; ``EXPEDIT_FUZZ_SECONDS=600 pytest tests/data/test_fuzz.py`` looks further.
"""

import copy
import json
import os
import resource
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from data_files import picture, write
from expedit.data.coco import open_coco_instance, open_coco_panoptic
from expedit.data.decode import decode_image, decode_indices, decode_rgb, image_size, is_turned
from expedit.data.pascal_context import open_pascal_context
from expedit.data.rle import encode
from expedit.data.youtubevis import open_youtubevis
from expedit.metrics.instance import instance_ap
from expedit.metrics.video import video_ap
from image_files import png, saved, tiff

SECONDS = float(os.environ.get("EXPEDIT_FUZZ_SECONDS", "2"))
MOST_PIXELS = 1 << 20
MOST_GROWTH = 1 << 19  # of this process, in KiB

PHOTO = Image.fromarray(picture(16, 16))
NUMBERS = np.arange(256).reshape(16, 16)
EXIF = Image.Exif()
EXIF[274] = 6
IMAGES = [
    *(saved(PHOTO, kind, exif=EXIF) for kind in ("JPEG", "PNG", "WEBP", "TIFF")),
    *(saved(PHOTO.convert(mode), "TIFF") for mode in ("LAB", "CMYK", "RGBA", "P", "1", "F")),
    *(saved(PHOTO, "TIFF", compression=kind) for kind in ("tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate")),
    *(saved(PHOTO, kind, save_all=True, append_images=[PHOTO]) for kind in ("GIF", "WEBP", "PNG", "TIFF", "MPO")),
    *(saved(PHOTO, kind) for kind in ("BMP", "PPM", "JPEG2000")),
    *(png(NUMBERS % 2**bits, bits) for bits in (1, 2, 4, 8)),
    *(tiff(NUMBERS.astype(np.uint16), bits) for bits in (8, 12, 16)),
]
LABELS = [
    *(png(NUMBERS % 2**bits, bits, 3, [1, 2, 3] * 2**bits) for bits in (1, 2, 4, 8)),
    *(png(NUMBERS % 2**bits, bits) for bits in (2, 4, 8)),
    *(tiff(NUMBERS.astype(np.uint32) % 2**bits, bits, photometric) for bits in (1, 4, 8, 16) for photometric in (0, 1)),
    *(saved(Image.fromarray(NUMBERS.astype(np.uint8)), kind) for kind in ("BMP", "GIF", "TIFF")),
]

SHARES = st.floats(0, 1, exclude_max=True)
EDITS = st.lists(
    st.tuples(SHARES, st.sampled_from(["flip", "set", "cut", "drop", "twice"]), st.binary(max_size=4)),
    min_size=1,
    max_size=6,
)


def damaged(content, edits):
    """The file after changes at places given as shares of its length."""
    for share, edit, data in edits:
        at = int(share * len(content))
        content = {
            "flip": content[:at] + bytes(255 - byte for byte in content[at : at + 1]) + content[at + 1 :],
            "set": content[:at] + data + content[at + len(data) :],
            "cut": content[:at],
            "drop": content[:at] + content[at + 3 :],
            "twice": content[:at] + content[at : at + 64] + content[at:],
        }[edit]
    return content


def outcome(act, *arguments):
    """What it returns, or the sentence of its error; errors of other kinds pass through."""
    try:
        return act(*arguments)
    except FileNotFoundError as error:
        return str(error)
    except ValueError as error:
        return str(error) if type(error) in (ValueError, OSError) or "_Unfit" in repr(type(error)) else repr(error)


def campaign(strategy, check):
    """Check new examples until the time is over."""
    end, number, before = time.monotonic() + SECONDS, 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    health = [*HealthCheck]
    while time.monotonic() < end:
        number += 1
        repeated = given(strategy)(check)
        seed(number)(settings(max_examples=100, deadline=5000, database=None, suppress_health_check=health)(repeated))()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_GROWTH


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    """No file may ask for more than a million pixels; Pillow's remarks on damage are not of interest."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", MOST_PIXELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("corpus", "readers"),
    [(IMAGES, (decode_image, image_size, is_turned)), (LABELS, (decode_indices, decode_rgb))],
    ids=["images", "labels"],
)
def test_damaged_pictures_are_read_or_refused(corpus, readers):
    def check(example):
        content = damaged(*example)
        for read in readers:
            result = outcome(read, content, "x")
            assert result.startswith("x: ") if isinstance(result, str) else np.size(result) <= 3 * MOST_PIXELS

    campaign(st.tuples(st.sampled_from(corpus), EDITS), check)


MASK = np.zeros((1, 6, 8), bool)
MASK[0, 1:4, 1:5] = True
[RLE] = encode(MASK)
POLYGONS = [[1, 1, 5, 1, 5, 4, 1, 4]]
SIZE = {"height": 6, "width": 8}
ENTRIES = [{"id": number, "file_name": f"{number}.jpg", **SIZE} for number in (1, 2)]
PERSON = [{"id": 1, "name": "person", "isthing": 1}]
BASE = {"category_id": 1, "area": 12, "iscrowd": 0}
FILES = {
    "annotations/instances_val2017.json": {
        "images": ENTRIES,
        "annotations": [
            {**BASE, "id": 1, "image_id": 1, "segmentation": POLYGONS, "bbox": [1, 1, 4, 3]},
            {**BASE, "id": 2, "image_id": 2, "segmentation": RLE},
            {
                **BASE,
                "id": 3,
                "image_id": 2,
                "segmentation": {"size": [6, 8], "counts": [7, 3, 3, 3, 32]},
                "iscrowd": 1,
            },
        ],
        "categories": PERSON,
    },
    "annotations/panoptic_val2017.json": {
        "images": ENTRIES,
        "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": [{**BASE, "id": 1}]}],
        "categories": PERSON,
    },
    "valid.json": {
        "videos": [{"id": 1, "file_names": ["a/1.jpg", "a/2.jpg"], "length": 2, **SIZE}],
        "annotations": [{**BASE, "id": 1, "video_id": 1, "segmentations": [RLE, None], "areas": [12, None]}],
        "categories": PERSON,
    },
    "VOC2010/trainval_merged.json": {
        "images": [{"image_id": 1, "file_name": "1.jpg", "phase": "val", **SIZE}],
        "annos_segmentation": [{"image_id": 1, "category_id": 2, "segmentation": POLYGONS}],
    },
}
FOLDERS = ("val2017", "valid/JPEGImages/a", "VOC2010/JPEGImages")
PHOTOS = {f"{folder}/{number}.jpg": picture() for folder in FOLDERS for number in (1, 2)}


def instances(root):
    data = open_coco_instance(root)
    for index in range(len(data)):
        data[index].masks()
    instance_ap(data.truth, [{"image_id": data.records[0].entry["id"], **BASE, "segmentation": RLE, "score": 0.5}])


def panoptic(root):
    data = open_coco_panoptic(root)
    for index in range(len(data)):
        data[index]


def videos(root):
    data = open_youtubevis(root)
    for clip in data.clips:
        for track in clip.tracks:
            track.masks(*clip.size)
    video_ap(data.truth, [])


def drawn(root):
    data = open_pascal_context(root)
    for index in range(len(data)):
        data[index]


READERS = dict(zip(FILES, (instances, panoptic, videos, drawn), strict=True))
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [0, -1, 2**31, 2**63, 10**400, 1e308, float("nan"), float("inf"), "", "1", "../x", "1.jpg", "\0", "é" * 300]
    ),
    st.text(max_size=5),
    st.lists(st.one_of(st.integers(-9, 9), st.floats(), st.none()), max_size=8),
    st.just({}),
    st.just({"size": [6, 8], "counts": "zzz"}),
)


def places(value, path=()):
    """Paths to every value in nested lists and dictionaries."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def changed(content, changes):
    """The content with junk in some of its places; ``None`` as a change takes the place away."""
    content = copy.deepcopy(content)
    for share, junk in changes:
        found = [*places(content)][1:]
        if not found:
            return content
        *path, last = found[int(share * len(found))]
        owner = content
        for key in path:
            owner = owner[key]
        if junk is None:
            del owner[last]
        else:
            owner[last] = copy.deepcopy(junk)
    return content


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", FILES)
def test_annotations_with_junk_are_read_or_refused(name):
    with tempfile.TemporaryDirectory() as folder:
        root = write(folder, {**PHOTOS, "panoptic_val2017/1.png": np.full((6, 8, 3), (1, 0, 0), np.uint8)})
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)

        def check(example):
            changes, edits = example
            text = json.dumps(changed(FILES[name], changes)).encode()
            path.write_bytes(damaged(text, edits) if edits else text)
            sentence = outcome(READERS[name], root)
            assert sentence is None or (len(sentence) < 2000 and "Error(" not in sentence[:30])

        campaign(st.tuples(st.lists(st.tuples(SHARES, JUNK), max_size=3), st.one_of(st.just([]), EDITS)), check)
