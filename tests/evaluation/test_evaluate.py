import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

import expedit
from expedit.checkpoints import safetensors_format
from expedit.cli import main
from expedit.data.samples import Sample
from expedit.evaluation.evaluate import Protocol, evaluate
from expedit.evaluation.pipeline import ahead
from expedit.evaluation.processes import Processes
from expedit.evaluation.resume import Partial
from expedit.inference import labels_of, resized_argmax, slide
from expedit.models import Segmenter
from expedit.models.card import Card, generic_card
from expedit.prepare import prepared

CARD = Card("semantic", ("red", "green", "blue"), ((255, 0, 0), (0, 255, 0), (0, 0, 255)), mean=(0,) * 3, std=(1,) * 3)


class Colours(nn.Module):
    """Says which colour is strongest."""

    def __init__(self):
        super().__init__()
        self.card = CARD
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, image):
        return image


@dataclass
class Pictures:
    samples: list
    classes: tuple = CARD.classes
    palette: tuple = CARD.palette

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def sample(name, prediction, label):
    return Sample(name, np.eye(3, dtype=np.uint8)[np.array(prediction)] * 255, np.array(label, np.uint8))


@pytest.fixture
def pictures():
    return Pictures([sample("a", [[0, 0, 1, 2]], [[0, 1, 1, 255]]), sample("b", [[0, 1], [1, 1]], [[0, 0], [1, 255]])])


@pytest.fixture
def tiny(tmp_path):
    """A small network for the toy data set, random but not constant."""
    model = Segmenter(classes=12, image_size=(64, 64), width=64, depth=2, heads=2, head_layers=1)
    model.card = replace(generic_card(12, 64), resize=(512, 128), stride=48)
    safetensors_format.save(model, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def test_hand_computed(pictures):
    # red: 2 right, 1 claimed by green, 1 claimed from green; green: 2 right; blue: predicted at an ignored pixel only
    result = evaluate(Colours(), pictures)
    assert result.counts.tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    figures = result.as_json()
    assert figures["miou"] == pytest.approx((2 / 4 + 2 / 4) / 2)
    assert figures["miou_all"] == pytest.approx(1 / 3)
    assert figures["pixel_accuracy"] == pytest.approx(4 / 6)
    assert figures["class_accuracy"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert figures["iou"] == {"red": 0.5, "green": 0.5, "blue": None}
    assert figures["against_miou"] is None
    assert json.dumps(figures, allow_nan=False)


def test_agreement_needs_no_labels(pictures):
    class Turned(Colours):
        def forward(self, image):
            return image.flip(1)  # red and blue change places

    pictures.samples = [replace(s, label=None) for s in pictures.samples]
    result = evaluate(Turned(), pictures, against=Colours())
    assert result.agreement.tolist() == [[0, 0, 3], [0, 4, 0], [1, 0, 0]]
    assert result.as_json()["against_pixel_agreement"] == pytest.approx(4 / 8)
    assert result.as_json()["miou"] is None


def test_models_that_answer_with_queries_are_scored_as_they_predict():
    class Queries(nn.Module):
        def __init__(self):
            super().__init__()
            self.card = replace(CARD, output="queries")
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, image):
            return 9 * torch.eye(3, 4)[None], F.avg_pool2d(image, 4) / 16 - 8

    rng = np.random.default_rng(0)
    colours = rng.integers(0, 3, (32, 48))
    data = Pictures([sample("a", colours, rng.integers(0, 3, (32, 48)))])
    prediction = expedit.predict(Queries(), data[0].image).labels
    assert len(np.unique(prediction)) == 3
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (data[0].label, prediction), 1)
    np.testing.assert_array_equal(evaluate(Queries(), data).counts, expected)
    with pytest.raises(ValueError, match="not queries"):
        evaluate(Queries(), data, protocol=Protocol(flip=True))


@pytest.mark.parametrize("world", [2, 3])
def test_shares_are_disjoint_and_add_up(pictures, world):
    pictures.samples = pictures.samples * 4
    whole = evaluate(Colours(), pictures, limit=7)
    shares = [evaluate(Colours(), pictures, limit=7, processes=_Alone(rank, world)) for rank in range(world)]
    np.testing.assert_array_equal(sum(share.counts for share in shares), whole.counts)
    assert sum(share.fresh for share in shares) == 7


class _Alone(Processes):
    """One of many whose sums stay its own."""

    def barrier(self):
        pass

    def total(self, values):
        return values


def test_state_goes_on_where_it_was(pictures, tmp_path):
    pictures.samples = pictures.samples * 5
    partial = Partial(tmp_path / "state", {"model": "colours"})
    evaluate(Colours(), pictures, limit=4, partial=partial)
    seen = []
    result = evaluate(Colours(), pictures, partial=partial, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (6, 6)
    assert (result.fresh, result.images) == (6, 10)
    np.testing.assert_array_equal(result.counts, evaluate(Colours(), pictures).counts)
    again = evaluate(Colours(), pictures, partial=partial)
    assert again.fresh == 0
    assert again.as_json()["images_per_second"] is None
    np.testing.assert_array_equal(again.counts, result.counts)
    with pytest.raises(ValueError, match=r"other settings, \{'model': 'colours'\}"):
        evaluate(Colours(), pictures, partial=Partial(tmp_path / "state", {"model": "greys"}))


def test_damaged_state_is_named(pictures, tmp_path):
    partial = Partial(tmp_path / "state", {})
    evaluate(Colours(), pictures, partial=partial)
    (part,) = (tmp_path / "state").glob("*.npz")
    content = part.read_bytes()
    part.with_name("part-9-0.npz").write_bytes(content)
    with pytest.raises(ValueError, match="images of another part"):
        evaluate(Colours(), pictures, partial=partial)
    part.with_name("part-9-0.npz").unlink()
    part.write_bytes(content[:100])
    with pytest.raises(ValueError, match=r"part-1-0\.npz: damaged"):
        evaluate(Colours(), pictures, partial=partial)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="expected a folder"):
        evaluate(Colours(), pictures, partial=Partial(tmp_path / "file", {}))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda p: p.samples.clear(), "the split is empty"),
        (lambda p: setattr(p, "classes", ("red", "green")), "3 classes, got 2"),
        (lambda p: p.samples.append(sample("odd", [[0, 1]], [[0]])), r"odd: .*shape of the label \(1, 1\)"),
        (lambda p: p.samples.append(sample("high", [[0]], [[7]])), r"high: label: expected 0\.\.2 or 255, got \[7\]"),
        (lambda p: p.samples.append(replace(p.samples[0], name="bare", label=None)), "bare: expected a ground truth"),
    ],
)
def test_what_is_wrong_is_named(pictures, change, complaint):
    change(pictures)
    with pytest.raises(ValueError, match=complaint):
        evaluate(Colours(), pictures)


@pytest.mark.parametrize("settings", [{"workers": 0}, {"window_batch": 0}, {"scales": ()}, {"scales": (1.0, -1.0)}])
def test_protocol_is_checked(settings):
    with pytest.raises(ValueError, match="expected"):
        Protocol(**settings)


def test_reading_ahead_keeps_order_and_a_bounded_lead():
    taken, started, lock = 0, 0, threading.Lock()

    def load(index):
        nonlocal started
        with lock:
            started += 1
            assert started - taken <= 3 * 2 + 1
        time.sleep(0.001 * (index % 3))
        return index

    for item in ahead(load, range(40), workers=3):
        assert item == taken
        taken += 1
    assert taken == 40


def test_a_failing_image_stops_the_run_soon():
    loaded = []

    def load(index):
        loaded.append(index)
        if index == 3:
            raise ValueError("broken")
        return index

    with pytest.raises(ValueError, match="broken"):
        list(ahead(load, range(1000), workers=2))
    assert len(loaded) < 20


def test_images_are_read_while_the_model_runs(pictures):
    """The model does not finish an image before the next one has been asked for; in one thread it never would."""
    asked = [threading.Event() for _ in range(6)]

    class Watched(Pictures):
        def __getitem__(self, index):
            asked[index].set()
            return super().__getitem__(index)

    class Waiting(Colours):
        runs = 0

        def forward(self, image):
            self.runs += 1
            assert asked[min(self.runs, 5)].wait(timeout=20)
            return image

    result = evaluate(Waiting(), Watched(pictures.samples * 3))
    assert 0 <= result.waiting <= result.seconds


def test_several_scales_and_flips_are_means_of_softmax_maps(tiny):
    from expedit.checkpoints.zoo import load

    model, size = load(tiny), (100, 130)
    image = torch.randint(0, 256, (*size, 3), dtype=torch.uint8).numpy()
    views = prepared(image, model.card, (0.75, 1.0))
    assert [tuple(view.shape[2:]) for view in views] == [(96, 125), (128, 166)]
    total = 0
    with torch.inference_mode():
        for view in views:
            for pixels, back in ((view, lambda m: m), (view.flip(3), lambda m: m.flip(3))):
                logits = F.interpolate(slide(model, pixels, 64, 48), size=size, mode="bilinear", align_corners=False)
                total = total + back(logits.softmax(1))
    best = total[0].topk(2, dim=0).values
    clear = best[0] - best[1] > 1e-5
    labels = labels_of(model, views, size, model.card, flip=True)
    assert clear.float().mean() > 0.9
    assert torch.equal(labels[clear], total[0].argmax(0).int()[clear])
    single = labels_of(model, prepared(image, model.card), image.shape[:2], model.card)
    assert torch.equal(single, labels_of(model, prepared(image, model.card), size, model.card))


@pytest.mark.parametrize("window_batch", [1, 4, 100])
def test_official_sliding_window(shared, window_batch):
    golden = load_file(shared / "goldens" / "segmenter_a_sliding_window.safetensors")
    weights = load_file(shared / "goldens" / "segmenter_a_weights.safetensors")
    weights = {name.removeprefix("weights."): value for name, value in weights.items()}
    model = Segmenter.from_state_dict(weights, num_heads=4)
    with torch.inference_mode():
        logits = slide(model, golden["input.image"], 96, 64, window_batch)
    expected = golden["output.baseline.slide_logits"]
    size = tuple(expected.shape[2:])
    resized = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(resized, expected, atol=1e-4, rtol=0)
    clear = golden["aux.baseline.margin"][0] > 1e-2
    assert torch.equal(resized_argmax(logits[0], size)[clear], golden["output.baseline.prediction"][0][clear])


def command(tiny, *more):
    return ["evaluate", str(tiny), "toy", "--limit", "24", "-m", "expedit(alpha=1, grid=(2, 2), top_k=4)", *more]


def test_command(tiny, tmp_path, capsys):
    path = tmp_path / "out" / "figures.json"
    few = ["--limit", "3", "--against", "dense", "--scales", "0.5", "1", "--flip"]
    assert main(command(tiny, "--json", str(path), *few)) == 0
    figures = json.loads(path.read_text())
    assert figures["images"] == 3
    assert np.sum(figures["confusion"]) == 3 * 256 * 256
    assert 0 < figures["against_pixel_agreement"] < 1
    printed = capsys.readouterr().out
    assert "mIoU" in printed
    assert "images per second" in printed


def test_killed_and_continued_by_two_processes_equals_undisturbed(tiny, tmp_path):
    state, environment = tmp_path / "state", {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(
        [sys.executable, "-m", "expedit", *command(tiny, "--resume", str(state))],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    while not list(state.glob("*.npz")) and killed.poll() is None:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    (part,) = state.glob("*.npz")
    saved = len(np.load(part)["done"])
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "expedit"]
    resumed = command(tiny, "--resume", str(state), "--json", str(tmp_path / "resumed.json"))
    subprocess.run([sys.executable, "-m", *torchrun, *resumed], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert main(command(tiny, "--threads", "1", "--json", str(tmp_path / "whole.json"))) == 0
    resumed, whole = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("resumed", "whole"))
    assert resumed["images_this_run"] == 24 - saved
    assert 1 <= saved < 24
    assert resumed["confusion"] == whole["confusion"]
    assert resumed["miou"] == whole["miou"]
