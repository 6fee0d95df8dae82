"""The scripts of benchmarks/ belong to no room, so nothing else notices when what they import has moved."""

import importlib.util
import sys
from pathlib import Path

import numpy
import pytest
import torch

from expedit import METHODS
from expedit.cost.macs import cost
from expedit.models import ViT
from expedit.spec import parse

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _folder(monkeypatch):
    """Python puts the folder of a script on the path: they import one another."""
    monkeypatch.syspath_prepend(FOLDER)


def script(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", FOLDER / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_a_script_finds_what_it_imports_and_names_its_command(name):
    module = script(name)
    assert callable(module.main)
    assert f"python benchmarks/{name}.py" in module.__doc__


def test_the_floor_is_arithmetic_or_memory_whichever_is_slower():
    floor = script("floor")
    layer, x = torch.nn.Linear(64, 32, bias=False), torch.randn(100, 64)
    macs, moved = 100 * 64 * 32, 4 * (100 * 64 + 64 * 32 + 100 * 32)
    for machine, want in ((floor.Machine(1.0, 1e12), macs), (floor.Machine(1e12, 1.0), moved)):
        with torch.inference_mode(), floor.Roofline(machine) as roofline:
            layer(x).view(-1)
        assert roofline.seconds == pytest.approx(want)


def test_intervals_of_differences_are_paired_and_drawn_in_blocks():
    """Two networks that differ by the same on every image: no draw says otherwise."""
    frontier = script("frontier")
    counts = numpy.tile(numpy.array([[60, 40], [20, 80]]), (12, 1, 1))
    dense = numpy.tile(numpy.array([[80, 20], [10, 90]]), (12, 1, 1))
    want = frontier.miou(counts) - frontier.miou(dense)
    assert frontier.interval(counts, dense, 5) == pytest.approx([want, want])
    counts[:6] = dense[:6]
    low, high = frontier.interval(counts, dense, 6)
    assert low == pytest.approx(want)
    assert high == pytest.approx(0)


def test_settings_of_the_tables_are_specs_that_the_library_reads():
    tables = script("frontier").TABLES
    for name in ("dinov2", "toy"):
        settings = tables[name]
        assert {parse(spec).__class__.__name__.lower() for row in settings.values() for spec in row.values()} >= {
            *METHODS.keys() - {"act"},
            "shrunk",
        }
        for row in settings.values():
            assert row
            assert set(row) <= {0.85, 0.67, 0.5, 0.4}
    assert tables["families"].keys() == tables["dinov2"].keys()


def test_families_are_turned_until_they_just_fit(monkeypatch):
    frontier = script("frontier")
    families = {"regions": ["regions(alpha=0, keep={left})", "regions(alpha=1, keep={left})"]}
    monkeypatch.setitem(frontier.TABLES, "families", families)
    monkeypatch.setattr(frontier, "SHARES", (0.67,))
    model = ViT(image_size=(128, 64), patch=8, width=16, depth=3, heads=2).eval()
    found = frontier.candidates(frontier.Subject(model, "toy", (128, 64), [], None, 2, frontier.miou))
    dense = cost(model, None, (128, 64)).true_macs
    assert len(found["regions", 0.67]) == 2
    for (_, goal), methods in found.items():
        for method in methods:
            assert goal - 0.02 < cost(model, method, (128, 64)).true_macs / dense <= goal
    everything = [method for row in found.values() for method in row]
    text = frontier.chosen(found, {repr(method): place for place, method in enumerate(everything)})
    assert frontier.yaml.safe_load(text)["regions"][0.67] == repr(found["regions", 0.67][-1])


def test_the_mask_of_saliency_is_judged_by_its_own_pixels():
    frontier = script("frontier")
    counts = numpy.array([[[90, 4], [1, 5]], [[95, 0], [0, 5]]])
    assert frontier.iou_of_mask(counts) == pytest.approx(100 * 10 / 15)
