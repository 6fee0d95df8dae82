import re

import pytest

from expedit.data import LAYOUTS
from expedit.recipes import FOLDER, load_recipe, measured_at, names

TABLES = {
    "mask2former-coco-panoptic": ("COCO", "Panoptic Segmentation", "pq"),
    "mask2former-coco-instance": ("COCO", "Instance Segmentation", "ap"),
    "mask2former-ade20k-panoptic": ("ADE20K", "Panoptic Segmentation", "pq"),
    "mask2former-ade20k-semantic": ("ADE20K", "Semantic Segmentation", "miou"),
    "video-mask2former-youtubevis-2019": ("Video Instance Segmentation", "YouTubeVIS 2019", "ap"),
    "video-mask2former-youtubevis-2021": ("Video Instance Segmentation", "YouTubeVIS 2021", "ap"),
}
SPECIFIED = {
    "mask2former-coco-panoptic": "COCO panoptic",
    "mask2former-coco-instance": "COCO instance",
    "mask2former-ade20k-panoptic": "ADE20K panoptic",
    "mask2former-ade20k-semantic": "ADE20K semantic",
    "video-mask2former-youtubevis-2019": "YouTubeVIS 2019",
    "video-mask2former-youtubevis-2021": "YouTubeVIS 2021",
}


@pytest.fixture
def recipe(name):
    return load_recipe(name)


def cells(line):
    return [cell.strip(" *") for cell in line.strip().strip("|").split("|")]


@pytest.mark.parametrize("name", TABLES)
def test_every_row_has_the_published_figures(shared, name, recipe):
    section, group, metric = TABLES[name]
    found, here = [], (None, None)
    for line in (shared / "mission/expedit-mask2former.md").read_text().splitlines():
        if match := re.match(r"(####?) (.*)", line):
            here = (match[2], None) if match[1] == "###" else (here[0], match[2])
        if here == (section, group) and line.startswith("| Mask2Former"):
            found.append(tuple(float(cell) for cell in cells(line)[4:7]))
    assert len(found) == 2
    assert [(r.published.gflops, r.published.fps, getattr(r.published, metric)) for r in recipe.rows] == found


@pytest.mark.parametrize("name", TABLES)
def test_settings_are_those_of_the_specification(shared, name, recipe):
    """Table c.3: row, alpha, released block, block implied by the GFLOPs, T, neighbourhood, temperature, k, restore."""
    lines = (shared / "spec.md").read_text().splitlines()
    [row] = [cells(line) for line in lines if re.match(rf"\| {SPECIFIED[name]} \| \d", line)]
    dense, ours = recipe.rows
    method, counted = ours.parsed(), ours.parsed_counted()
    assert dense.parsed() is dense.parsed_counted() is None
    restore = method.temperature if method.restore_temperature is None else method.restore_temperature
    assert (method.alpha, counted.alpha) == (int(row[2]), int(row[3]))
    assert (method.iterations, method.neighbourhood, method.top_k) == (int(row[4]), int(row[5]), int(row[7]))
    assert (method.temperature, restore, method.grid) == (float(row[6]), float(row[8]), (8, 8))
    assert (method.normalize, method.restore, method.official_weights) == ("l2", "logits", True)
    assert ours.settings == "released"
    assert (ours.counted is not None) == (row[2] != row[3])
    if row[1] != row[2] or row[2] != row[3]:
        assert ours.note


@pytest.mark.parametrize("name", TABLES)
def test_recipes_say_how_they_were_measured(name, recipe):
    assert recipe.options == {"official_shift_mask": True, "official_padding": True}
    sizes = {"youtubevis-2019": (28, 480, 832), "youtubevis-2021": (32, 400, 640)}
    assert recipe.measured_at == sizes.get(recipe.data, (1, 1152, 1152))
    assert measured_at(recipe.architecture) == recipe.measured_at
    assert (recipe.split == "valid") == (LAYOUTS[recipe.data].task == "video")
    text = (FOLDER / f"{name}.yaml").read_text()
    assert text.startswith("#")
    assert f"expedit compare {name} " in text
    assert name in names()


@pytest.mark.parametrize("name", ["mask2former-coco-panoptic"])
@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("pq: 57.8", "pq: 57.8, ap: 3", "expected one of miou, pq, ap, got pq, ap"),
        (", pq: 57.8", "", "expected one of miou, pq, ap, got none"),
        ("official_padding: true", "official_padding: 3", "options official_padding: expected true or false, got 3"),
        ("[1, 1152, 1152]", "[1152, 1152]", "measured_at: expected a list of 3"),
        ("[1, 1152, 1152]", "big", "measured_at: expected a list of 3"),
        ("[1, 1152, 1152]", "5", "measured_at: expected a list of 3"),
        ("counted: expedit(alpha=9,", "counted: expedit(alfa=9,", "rows 2: .*alfa"),
        ("data: coco-panoptic", "data: coco", "data: expected one of"),
    ],
)
def test_mistakes_are_named(tmp_path, name, old, new, complaint):
    text = (FOLDER / f"{name}.yaml").read_text()
    assert old in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=complaint):
        load_recipe(path)
