import json
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

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
from expedit.evaluation.evaluate import Run, evaluate
from expedit.evaluation.pipeline import afterwards, ahead
from expedit.evaluation.resume import Journal
from expedit.evaluation.semantic import SemanticJudge
from expedit.inference import labels_of, resized_argmax, slide
from expedit.models import Segmenter
from expedit.models.card import Card, generic_card
from expedit.prepare import prepared
from one_of_many import OneOfMany, timeless

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


def evaluated(model, data, **run):
    """The evaluation of one semantic model."""
    return evaluate({"model": model}, data, SemanticJudge(model.card, data), Run(**run))["model"]


@pytest.fixture
def tiny(tmp_path):
    """A small network for the toy data set, random but not constant."""
    model = Segmenter(classes=12, image_size=(64, 64), width=64, depth=2, heads=2, head_layers=1)
    model.card = replace(generic_card(12, 64), resize=(512, 128), stride=48)
    safetensors_format.save(model, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def test_hand_computed(pictures):
    # red: 2 right, 1 claimed by green, 1 claimed from green; green: 2 right; blue: predicted at an ignored pixel only
    result = evaluated(Colours(), pictures)
    scores = result.as_json()
    assert scores["confusion"] == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert result.value == scores["miou"] == pytest.approx((2 / 4 + 2 / 4) / 2)
    assert scores["miou_all"] == pytest.approx(1 / 3)
    assert scores["pixel_accuracy"] == pytest.approx(4 / 6)
    assert scores["class_accuracy"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert scores["classes"] == {name: {"IoU": 0.5, "accuracy": pytest.approx(2 / 3)} for name in ("red", "green")}
    assert "against_miou" not in scores
    assert json.dumps(scores, allow_nan=False)


class Turned(Colours):
    def forward(self, image):
        return image.flip(1)  # red and blue change places


def test_agreement_needs_no_labels(pictures):
    pictures.samples = [replace(s, label=None) for s in pictures.samples]
    models, judge = {"dense": Colours(), "turned": Turned()}, SemanticJudge(CARD, pictures)
    result = evaluate(models, pictures, judge, Run(against="dense"))["turned"]
    assert result.scores.per_class["green"] == {"IoU": 1, "accuracy": 1}
    scores = result.as_json()
    assert scores["against_pixel_agreement"] == pytest.approx(4 / 8)
    assert scores["against_miou"] == pytest.approx(1 / 3)
    assert scores["miou"] is result.value is None


def test_every_image_is_read_and_prepared_once_for_all(pictures):
    read = []

    class Counting(Pictures):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    data, models = Counting(pictures.samples), {"dense": Colours(), "turned": Turned(), "again": Colours()}
    found = evaluate(models, data, SemanticJudge(CARD, data), Run(against="dense"))
    assert sorted(read) == [0, 1]
    assert list(found) == list(models)
    assert found["dense"].scores == found["again"].scores == evaluated(Colours(), pictures, against="model").scores
    assert found["turned"].value == evaluated(Turned(), pictures).value


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
    assert evaluated(Queries(), data).as_json()["confusion"] == expected.tolist()
    with pytest.raises(ValueError, match="not queries"):
        SemanticJudge(Queries().card, data, flip=True)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_images(pictures, world):
    pictures.samples = pictures.samples * 4
    parts, whole = [], evaluated(Colours(), pictures, limit=7)
    for rank in reversed(range(world)):
        result = evaluate(
            {"model": Colours()},
            pictures,
            SemanticJudge(CARD, pictures),
            Run(limit=7, processes=OneOfMany(rank, world, parts)),
        )
        assert bool(result) == (rank == 0)
    assert sum(map(len, parts)) == 7
    assert result["model"].scores == whole.scores


def test_state_goes_on_where_it_was(pictures, tmp_path):
    pictures.samples = pictures.samples * 5
    journal, whole = Journal(tmp_path / "state", {"model": "colours"}), evaluated(Colours(), pictures)
    evaluated(Colours(), pictures, limit=4, journal=journal)
    seen = []
    result = evaluated(Colours(), pictures, journal=journal, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (6, 6)
    assert (result.pace.fresh, result.pace.images) == (6, 10)
    assert result.scores == whole.scores
    again = evaluated(Colours(), pictures, journal=journal)
    assert again.pace.fresh == 0
    assert again.as_json()["images_per_second"] is None
    assert again.scores == whole.scores
    assert (
        evaluated(Colours(), pictures, limit=3).scores
        == evaluated(Colours(), pictures, limit=3, journal=journal).scores
    )
    with pytest.raises(ValueError, match=r"other settings, \{'model': 'colours'\}"):
        evaluated(Colours(), pictures, journal=Journal(tmp_path / "state", {"model": "greys"}))


def test_a_contestant_that_comes_later_is_all_that_is_run(pictures, tmp_path):
    ran = []

    class Noted(Turned):
        def forward(self, image):
            ran.append("turned")
            return super().forward(image)

    class First(Colours):
        def forward(self, image):
            ran.append("dense")
            return super().forward(image)

    journal, judge = Journal(tmp_path / "state", {}), SemanticJudge(CARD, pictures)
    alone = evaluate({"dense": First()}, pictures, judge, Run(journal=journal, against="dense"))
    models = {"dense": First(), "turned": Noted(), "other": Turned()}
    ran.clear()
    found = evaluate(models, pictures, judge, Run(journal=journal, against="dense"))
    assert ran == ["dense", "turned"] * 2  # dense once more: its answers are what the others are compared with
    assert found["dense"].scores == alone["dense"].scores
    assert timeless(found) == timeless(evaluate(models, pictures, judge, Run(against="dense")))
    ran.clear()
    assert timeless(evaluate(models, pictures, judge, Run(journal=journal, against="dense"))) == timeless(found)
    assert not ran


def test_damaged_state_is_named(pictures, tmp_path):
    journal = Journal(tmp_path / "state", {})
    evaluated(Colours(), pictures, journal=journal)
    (part,) = (tmp_path / "state").iterdir()
    content = part.read_bytes()
    part.with_name("part-9-0.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match="images of another part"):
        evaluated(Colours(), pictures, journal=journal)
    part.with_name("part-9-0.jsonl").unlink()
    part.write_bytes(content[:-20])  # the last line was cut short: its image is evaluated again
    assert evaluated(Colours(), pictures, journal=journal).pace.fresh == 1
    part.write_bytes(content[:5] + content[50:])
    with pytest.raises(ValueError, match=r"part-1-0\.jsonl: damaged"):
        evaluated(Colours(), pictures, journal=journal)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="expected a folder"):
        evaluated(Colours(), pictures, journal=Journal(tmp_path / "file", {}))


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
        evaluated(Colours(), pictures)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"window_batch": 0}, "at least 1 window"),
        ({"scales": ()}, "positive numbers"),
        ({"scales": (1.0, -1.0)}, "positive numbers"),
        ({"submission": Path("out")}, "no submission files"),
    ],
)
def test_settings_of_a_judge_are_checked(settings, complaint, pictures):
    with pytest.raises(ValueError, match=complaint):
        SemanticJudge(CARD, pictures, **settings)


def test_contestants_that_do_not_go_together_are_refused(pictures):
    other, judge = Colours(), SemanticJudge(CARD, pictures)
    other.card = replace(CARD, mean=(1, 1, 1))
    for models, run, complaint in (
        ({"dense": Colours(), "other": other}, {}, "other: expected a model with the judge's card"),
        ({"bare": nn.Identity()}, {}, "Identity has no card"),
        ({"dense": Colours()}, {"against": "fast"}, "against: expected one of dense, got fast"),
    ):
        with pytest.raises(ValueError, match=complaint):
            evaluate(models, pictures, judge, Run(**run))
    for name in ("workers", "limit"):
        with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
            Run(**{name: 0})


def test_reading_ahead_keeps_order_and_a_bounded_lead():
    taken, started, lock = 0, 0, threading.Lock()

    def load(index):
        nonlocal started
        with lock:
            started += 1
            assert started - taken <= 3 * 2 + 1
        time.sleep(0.001 * (index % 3))
        return index

    with ahead(load, range(40), workers=3) as items:
        for item in items:
            assert item == taken
            taken += 1
    assert taken == 40


def test_a_failing_image_stops_the_run_soon():
    loaded, before = [], threading.active_count()

    def load(index):
        loaded.append(index)
        if index == 3:
            raise ValueError("broken")
        return index

    with pytest.raises(ValueError, match="broken") as failure, ahead(load, range(1000), workers=2) as items:
        list(items)
    assert len(loaded) < 20
    assert threading.active_count() == before
    del failure


def test_what_comes_afterwards_is_bounded_and_finished():
    free, done = threading.Event(), []

    def call(index):
        assert free.wait(timeout=20)
        if index == 5:
            raise ValueError("disk full")
        done.append(index)

    def run(indices, error=None):
        with afterwards(1, 4) as later:
            for index in indices:
                later(call, index)
            free.set()
            if error:
                raise error

    with pytest.raises(KeyError):
        run(range(4), KeyError())  # the fifth would wait for the first
    assert done == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="disk full"):
        run(range(7))


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

    pace = evaluated(Waiting(), Watched(pictures.samples * 3)).pace
    assert 0 <= pace.waiting <= pace.seconds


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
    path = tmp_path / "out" / "scores.json"
    few = ["--limit", "3", "--against", "dense", "--scales", "0.5", "1", "--flip"]
    assert main(command(tiny, "--json", str(path), *few)) == 0
    scores = json.loads(path.read_text())
    assert scores["images"] == 3
    assert np.sum(scores["confusion"]) == 3 * 256 * 256
    assert 0 < scores["against_pixel_agreement"] < 1
    printed = capsys.readouterr().out
    assert "mIoU" in printed
    assert "images per second" in printed
