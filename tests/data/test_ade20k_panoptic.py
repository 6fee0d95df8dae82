import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from data_files import opened
from expedit.cli import main
from expedit.data.ade20k_panoptic import THINGS, open_ade20k_instance, open_ade20k_panoptic
from expedit.data.ade20k_prepare import prepare_instance, prepare_panoptic

WALL, SKY, PERSON, BED = 0, 2, 12, 7
PERSON_PLACE, BED_PLACE = 4, 1


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def picture(root, name, split="validation"):
    """Sky over wall, a pixel unlabelled; two persons, one of them over the sky, a bed; a person without instance."""
    semantic = np.zeros((12, 16), int)
    semantic[:6], semantic[6:] = SKY + 1, WALL + 1
    semantic[6:9, 2:4] = PERSON + 1
    semantic[11, 12:] = PERSON + 1
    semantic[0, 0] = 0
    categories, numbers = np.zeros_like(semantic), np.zeros_like(semantic)
    for number, place, window in (
        (3, PERSON_PLACE, np.s_[4:9, 2:4]),
        (7, PERSON_PLACE, np.s_[9:11, 8:10]),
        (1, BED_PLACE, np.s_[9:12, 0:2]),
    ):
        categories[window], numbers[window] = place, number
    save(root / f"images/{split}/{name}.jpg", np.zeros((12, 16, 3)))
    save(root / f"annotations/{split}/{name}.png", semantic)
    save(root / f"annotations_instance/{split}/{name}.png", np.stack([categories, numbers, 0 * numbers], -1))
    return semantic, categories, numbers


def test_the_things_are_the_official_hundred(shared):
    meta = shared / "data/ade20k/sceneparsing_meta/ade20k_instance_catid_mapping.txt"
    rows = [line.split() for line in meta.read_text().splitlines()[1:]]
    assert {int(row[0]): int(row[1]) - 1 for row in rows} == {place + 1: index for place, index in enumerate(THINGS)}


def test_prepared_panoptic_labels(tmp_path):
    root = tmp_path / "ADEChallengeData2016"
    picture(root, "ADE_val_00000002")
    picture(root, "ADE_val_00000001")
    steps = []
    path = prepare_panoptic(tmp_path, "val", lambda done, total: steps.append((done, total)))
    assert path == root / "ade20k_panoptic_val.json"
    assert steps == [(1, 2), (2, 2)]
    content = json.loads(path.read_text())
    assert [image["id"] for image in content["images"]] == ["ADE_val_00000001", "ADE_val_00000002"]
    assert content["images"][0] == {
        "id": "ADE_val_00000001",
        "file_name": "ADE_val_00000001.jpg",
        "height": 12,
        "width": 16,
    }
    assert [c["id"] for c in content["categories"]] == list(range(150))
    assert sum(c["isthing"] for c in content["categories"]) == 100
    data = open_ade20k_panoptic(tmp_path, "val")
    sample = data[0]
    found = {(s.category, s.area, int((sample.ids == s.id).sum())) for s in sample.segments}
    # The sky states the 95 pixels it had before a person was laid over four of them.
    assert found == {(SKY, 95, 91), (WALL, 86, 76), (PERSON, 10, 10), (PERSON, 4, 4), (BED, 6, 6)}
    assert sample.ids[0, 0] == 0
    assert (sample.ids[11, 12:] == 0).all()  # a thing without an instance is not labelled
    boxes = {(s["category_id"], *s["bbox"]) for s in content["annotations"][0]["segments_info"]}
    assert (PERSON, 2, 4, 2, 5) in boxes
    assert (BED, 0, 9, 2, 3) in boxes


def test_prepared_instance_labels(tmp_path):
    _, categories, numbers = picture(tmp_path, "ADE_val_00000001")
    picture(tmp_path, "ADE_val_00000002")
    path = prepare_instance(tmp_path, "val")
    oracle = COCO(path)
    assert sorted(oracle.getCatIds()) == list(THINGS)
    known = oracle.loadAnns(oracle.getAnnIds(["ADE_val_00000001"]))
    assert [item["id"] for item in oracle.dataset["annotations"]] == list(range(1, 7))
    assert len(known) == 3
    for item, number in zip(known, (1, 3, 7), strict=True):
        assert (oracle.annToMask(item).astype(bool) == (numbers == number)).all()
        assert item["area"] == (numbers == number).sum()
        assert THINGS[categories[numbers == number][0] - 1] == item["category_id"]
    sample = open_ade20k_instance(tmp_path, "val")[1]
    assert (sample.masks() == np.stack([numbers == n for n in (1, 3, 7)])).all()
    assert sample.instances[0].category == THINGS.index(BED)


def test_training_and_validation_have_their_own_files(tmp_path):
    picture(tmp_path, "ADE_train_00000001", "training")
    picture(tmp_path, "ADE_val_00000001")
    assert prepare_panoptic(tmp_path, "train").name == "ade20k_panoptic_train.json"
    assert open_ade20k_panoptic(tmp_path, "train")[0].name == "ADE_train_00000001"
    with pytest.raises(FileNotFoundError, match="make it with: expedit prepare ade20k-panoptic"):
        open_ade20k_panoptic(tmp_path, "val")
    with pytest.raises(FileNotFoundError, match="make it with: expedit prepare ade20k-instance"):
        open_ade20k_instance(tmp_path, "val")


@pytest.mark.parametrize("prepare", [prepare_panoptic, prepare_instance])
def test_an_interrupted_run_goes_on(tmp_path, prepare):
    for tree in ("whole", "cut"):
        for number in range(4):
            picture(tmp_path / tree, f"ADE_val_{number:08d}")
    expected = prepare(tmp_path / "whole", "val").read_text()
    root = tmp_path / "cut"
    label = root / "annotations_instance/validation/ADE_val_00000002.png"
    content = label.read_bytes()
    label.write_bytes(content[:50])
    with pytest.raises(ValueError, match=r"ADE_val_00000002\.png"):
        prepare(root, "val")
    assert not list(root.glob("ade20k_*_val.json"))
    [journal] = root.glob("*.journal")
    assert len(journal.read_text().splitlines()) == 2
    with journal.open("a") as file:
        file.write('["images/validation/ADE_val_00000002.jpg", {"si')  # killed while writing
    (root / "annotations_instance/validation/ADE_val_00000000.png").unlink()  # done already: not read again
    label.write_bytes(content)
    assert prepare(root, "val").read_text() == expected
    assert not journal.exists()
    label.unlink()
    assert prepare(root, "val").read_text() == expected  # finished: nothing is done


def test_a_png_that_was_deleted_is_made_again(tmp_path):
    for number in range(2):
        picture(tmp_path, f"ADE_val_{number:08d}")
    label = tmp_path / "annotations/validation/ADE_val_00000001.png"
    label.rename(label.with_suffix(".away"))
    with pytest.raises(FileNotFoundError, match=r"annotations/validation/ADE_val_00000001\.png"):
        prepare_panoptic(tmp_path, "val")
    label.with_suffix(".away").rename(label)
    made = tmp_path / "ade20k_panoptic_val/ADE_val_00000000.png"
    made.unlink()
    prepare_panoptic(tmp_path, "val")
    assert made.is_file()


@pytest.mark.parametrize(
    ("kind", "pixels", "message"),
    [
        ("annotations", np.full((12, 16), 151), r"expected label values 0\.\.150, got up to 151"),
        ("annotations", np.zeros((3, 3)), "expected a label as large as its image, 16 x 12"),
        ("annotations_instance", np.zeros((12, 16)), "expected three channels"),
        ("annotations_instance", np.full((12, 16, 3), 101), r"one category 1\.\.100 \(red\) for object 101"),
        ("annotations_instance", np.stack([np.eye(12, 16), np.ones((12, 16)), np.ones((12, 16))], -1), r"got \[0, 1\]"),
    ],
)
def test_labels_that_are_none_are_named(tmp_path, kind, pixels, message):
    picture(tmp_path, "ADE_val_00000001")
    save(tmp_path / kind / "validation/ADE_val_00000001.png", pixels)
    with pytest.raises(ValueError, match=rf"{kind}/validation/ADE_val_00000001\.png: .*{message}"):
        prepare_panoptic(tmp_path, "val")


def test_labels_fit_a_photograph_as_it_is_turned(tmp_path):
    picture(tmp_path, "ADE_val_00000001")
    photo = Image.fromarray(np.zeros((16, 12, 3), np.uint8))
    exif = photo.getexif()
    exif[274] = 6
    photo.save(tmp_path / "images/validation/ADE_val_00000001.jpg", exif=exif)
    prepare_panoptic(tmp_path, "val")
    assert open_ade20k_panoptic(tmp_path)[0].image.shape == (12, 16, 3)


def test_pictures_of_another_program_are_not_replaced(tmp_path):
    """The official ones, without the JSON that came with them."""
    picture(tmp_path, "ADE_val_00000001")
    official = tmp_path / "ade20k_panoptic_val/ADE_val_00000001.png"
    save(official, np.ones((12, 16, 3)))
    before = official.read_bytes()
    with pytest.raises(ValueError, match=r"ADE_val_00000001\.png: exists already, and expedit did not write it"):
        prepare_panoptic(tmp_path, "val")
    assert official.read_bytes() == before
    official.unlink()
    prepare_panoptic(tmp_path, "val").unlink()
    prepare_panoptic(tmp_path, "val")  # ours are made again


@pytest.mark.parametrize("prepare", [prepare_panoptic, prepare_instance])
def test_photographs_that_are_none_are_named(tmp_path, prepare, monkeypatch):
    picture(tmp_path, "ADE_val_00000001")
    path = tmp_path / "images/validation/ADE_val_00000001.jpg"
    with monkeypatch.context() as patch, pytest.raises(ValueError, match=r"ADE_val_00000001\.jpg: .*pixels"):  # noqa: PT012
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 12 * 16 // 2 - 1)
        prepare(tmp_path, "val")
    path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"ADE_val_00000001\.jpg: expected an image"):
        prepare(tmp_path, "val")


def test_equals_the_derived_files_on_real_pictures(shared, tmp_path):
    """The stored segments were made elsewhere; here their labels are taken apart into channels and put together."""
    derived = shared / "data/ade20k/derived_150"
    stored = json.loads((derived / "panoptic.json").read_text())
    objects = json.loads((derived / "instances100.json").read_text())
    oracle = COCO()
    oracle.dataset = objects
    oracle.createIndex()
    for image in stored["images"][:1]:
        name = image["file_name"].split("/")[-1].removesuffix(".jpg")
        semantic = np.array(opened(derived / f"{name}.png"))
        categories, numbers = np.zeros_like(semantic), np.zeros_like(semantic)
        for number, item in enumerate(oracle.loadAnns(oracle.getAnnIds(image["id"])), start=1):
            mask = oracle.annToMask(item).astype(bool)
            categories[mask], numbers[mask] = item["category_id"], number
        save(tmp_path / f"images/validation/{name}.jpg", np.zeros((*semantic.shape, 3)))
        save(tmp_path / f"annotations/validation/{name}.png", semantic)
        save(tmp_path / f"annotations_instance/validation/{name}.png", np.stack([categories, numbers, numbers], -1))
    prepare_panoptic(tmp_path, "val")
    data = open_ade20k_panoptic(tmp_path)
    assert len(data) == 1
    for index, annotation in enumerate(stored["annotations"][:1]):
        expected = {
            (s["category_id"] - 1, s["area"]) for s in annotation["segments_info"] if s["category_id"] - 1 not in THINGS
        }
        segments = data[index].segments
        assert {(s.category, s.area) for s in segments if s.category not in THINGS} == expected
        known = oracle.loadAnns(oracle.getAnnIds(annotation["image_id"]))
        assert sorted(s.category for s in segments if s.category in THINGS) == sorted(
            THINGS[a["category_id"] - 1] for a in known
        )


def test_the_command(tmp_path, capsys):
    picture(tmp_path, "ADE_train_00000001", "training")
    picture(tmp_path, "ADE_val_00000001")
    assert main(["prepare", "ade20k-panoptic", str(tmp_path)]) == 0
    assert main(["prepare", "ade20k-instance", str(tmp_path), "--split", "val"]) == 0
    out = capsys.readouterr().out
    assert (tmp_path / "ade20k_panoptic_train.json").is_file()
    assert not (tmp_path / "ade20k_instance_train.json").exists()
    assert str(tmp_path / "ade20k_instance_val.json") in out
    assert main(["prepare", "ade20k-panoptic", str(tmp_path / "nowhere")]) == 2
    assert "expected the folder ADEChallengeData2016" in capsys.readouterr().err
