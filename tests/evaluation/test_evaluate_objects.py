"""Panoptic and instance models over real data: scores, submission files, and what the official evaluators say."""

import contextlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hotcoco.panoptic import PanopticEval
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import expedit
from data_files import write
from expedit.checkpoints import mask2former
from expedit.cli import main
from expedit.data import ade20k_panoptic, coco, open_dataset
from expedit.data.writing import partial_of
from expedit.evaluation.evaluate import Run, evaluate
from expedit.evaluation.judges import JUDGES
from expedit.evaluation.resume import Journal
from one_of_many import OneOfMany
from small_mask2former import SPEC, coco_tree, network, saved

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def coco_panoptic(shared, tmp_path_factory):
    return coco_tree(shared, tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="module")
def ade20k(shared, tmp_path_factory):
    """Three pictures of ADE20K with their 150 classes in the layout that ``expedit prepare`` leaves behind."""
    root = tmp_path_factory.mktemp("ade") / "ADEChallengeData2016"
    derived = shared / "data/ade20k/derived_150"
    images = root / "images/validation"
    images.mkdir(parents=True)
    for path in (shared / "data/ade20k/ADE20K_2021_17_01_sample").rglob("*.jpg"):
        shutil.copy(path, images / path.name)
    (root / "ade20k_panoptic_val").mkdir()
    panoptic = json.loads((derived / "panoptic.json").read_text())
    for annotation in panoptic["annotations"]:
        shutil.copy(derived / annotation["file_name"], root / "ade20k_panoptic_val" / annotation["file_name"])
    instances = json.loads((derived / "instances100.json").read_text())
    for truth in (panoptic, instances):  # both number their categories in a way of their own
        number = {category["id"]: category.get("ade150", category["id"]) - 1 for category in truth["categories"]}
        segments = [s for a in truth["annotations"] for s in a.get("segments_info", [a])]
        for entry, key in [(c, "id") for c in truth["categories"]] + [(s, "category_id") for s in segments]:
            entry[key] = number[entry[key]]
        for image in truth["images"]:
            image["file_name"] = Path(image["file_name"]).name
    (root / "ade20k_panoptic_val.json").write_text(json.dumps(panoptic))
    (root / "ade20k_instance_val.json").write_text(json.dumps(instances))
    return root


def evaluated(model, data, out, *more):
    """The JSON of ``expedit evaluate`` with submission files in ``out``."""
    argv = ["evaluate", model, data, "--submission", out, "--json", out / "scores.json", "-m", SPEC]
    assert main([str(word) for word in (*argv, "--option", "official_padding", "--threads", 1, *more)]) == 0
    return json.loads((out / "scores.json").read_text())


def panoptic_oracle(root, path, pngs):
    evaluation = PanopticEval(root, path, gt_folder=pngs, pred_folder=None)
    evaluation.evaluate()
    return evaluation.results()


def instance_oracle(truth, path):
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(truth)
        evaluation = COCOeval(known, known.loadRes(str(path)), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


@pytest.mark.parametrize("name", ["coco_panoptic", "ade20k"])
def test_panoptic_files_score_as_the_evaluation(name, request, tmp_path):
    root = request.getfixturevalue(name)
    kind = name.split("_")[0]
    categories = {"coco": coco, "ade20k": ade20k_panoptic}[kind].panoptic_categories()
    model = saved(network("panoptic", categories), tmp_path)
    scores = evaluated(model, f"{kind}-panoptic:{root}", tmp_path / "out")
    truth, pngs = {
        "coco": (root / "annotations/panoptic_val2017.json", root / "panoptic_val2017"),
        "ade20k": (root / "ade20k_panoptic_val.json", root / "ade20k_panoptic_val"),
    }[kind]
    expected = panoptic_oracle(truth, tmp_path / "out/panoptic.json", pngs)
    for group, end in (("All", ""), ("Things", "_th"), ("Stuff", "_st")):
        got = tuple(scores[name + end] for name in ("PQ", "SQ", "RQ"))
        assert got == pytest.approx(tuple(expected[group][name] for name in ("pq", "sq", "rq")), abs=1e-12)
    written = json.loads((tmp_path / "out/panoptic.json").read_text())
    assert len(written["annotations"]) == scores["images"] == (2 if kind == "coco" else 3)
    assert sum(len(annotation["segments_info"]) for annotation in written["annotations"]) >= 2
    assert set(scores["classes"]) <= set(categories.names)


@pytest.mark.parametrize("name", ["tinycoco", "ade20k"])
def test_instance_files_score_as_the_evaluation(name, request, shared, tmp_path):
    kind = "coco" if name == "tinycoco" else name
    root = shared / "data/coco_instance/tinycoco" if kind == "coco" else request.getfixturevalue(name)
    categories = {"coco": coco, "ade20k": ade20k_panoptic}[kind].instance_categories()
    model = saved(network("instance", categories), tmp_path)
    scores = evaluated(model, root, tmp_path / "out")
    truth = root / ("annotations/instances_val2017.json" if kind == "coco" else "ade20k_instance_val.json")
    expected = instance_oracle(truth, tmp_path / "out/results.json")
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    got = [-1 if scores[name] is None else scores[name] for name in names]
    assert got == pytest.approx(expected, abs=1e-12)
    assert len(json.loads((tmp_path / "out/results.json").read_text())) > 100


def judged(model, data, submission=None, **run):
    """The evaluation of one model by the judge of its task."""
    judge = JUDGES[model.card.task](model.card, data, submission)
    return evaluate({"model": model}, data, judge, Run(**run)).get("model")


class Knowing(torch.nn.Module):
    """Answers with the ground truth moved by some pixels, image after image in the order of the data set."""

    def __init__(self, data, task, images=None):
        super().__init__()
        categories = data.categories
        card = mask2former.protocol(task, (1, 1), categories.names, categories.palette, categories.things)
        self.card = replace(card, resize=None, multiple=1)
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.images = iter(range(len(data)) if images is None else images)
        self.data = data

    def forward(self, pixels):
        sample = self.data[next(self.images)]
        assert pixels.shape[2:] == sample.image.shape[:2]
        if self.card.task == "panoptic":
            masks = [(sample.ids == segment.id, segment.category) for segment in sample.segments]
        else:
            masks = list(zip(sample.masks(), (one.category for one in sample.instances), strict=True))
        classes = torch.zeros(1, len(masks), len(self.data.classes) + 1)
        for query, (_, category) in enumerate(masks):
            classes[0, query, category] = 9 + query / len(masks)
        moved = np.stack([np.roll(mask, (4, 6), (0, 1)) for mask, _ in masks])
        return classes, 20 * torch.from_numpy(moved)[None].float() - 10


def test_good_answers_have_good_scores_and_the_oracles_agree(coco_panoptic, shared, tmp_path):
    data = open_dataset(coco_panoptic, "val", "panoptic")
    left = partial_of(tmp_path / "panoptic" / "a.png")  # by a process that was killed while it wrote
    write(left.parent, {left.name: b""})
    result = judged(Knowing(data, "panoptic"), data, submission=tmp_path)
    assert not left.exists()
    expected = panoptic_oracle(
        coco_panoptic / "annotations/panoptic_val2017.json", result.submission, coco_panoptic / "panoptic_val2017"
    )
    assert result.value == pytest.approx(expected["All"]["pq"], abs=1e-12)
    assert 0.3 < result.value < 0.95
    root = shared / "data/coco_instance/tinycoco"
    data = open_dataset(root, "val", "instance")
    result = judged(Knowing(data, "instance"), data, submission=tmp_path)
    assert list(result.scores.overall.values()) == pytest.approx(
        instance_oracle(root / "annotations/instances_val2017.json", result.submission), abs=1e-12
    )
    assert 0.2 < result.as_json()["AP"] == result.value < 0.95


def test_killed_and_continued_by_two_processes_equals_undisturbed(shared, tmp_path):
    data = open_dataset(shared / "data/coco_instance/tinycoco", "val", "instance")
    whole = judged(Knowing(data, "instance"), data)
    journal = Journal(tmp_path / "state", {"model": "knowing"})

    def fail(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judged(Knowing(data, "instance"), data, journal=journal, progress=fail)
    (part,) = (tmp_path / "state").iterdir()
    lines = part.read_text().splitlines(keepends=True)
    part.write_text("".join(lines[:3]) + lines[3][:50])  # two images, and a third that was cut short
    assert list(journal.read()) == [(0, "model"), (1, "model")]
    elsewhere = Journal(shutil.copytree(tmp_path / "state", tmp_path / "elsewhere"), journal.settings)
    parts = []
    share = OneOfMany(1, 2, parts)
    assert judged(Knowing(data, "instance", [3, 5]), data, journal=elsewhere, processes=share) is None
    share = OneOfMany(0, 2, parts)
    result = judged(Knowing(data, "instance", [2, 4]), data, journal=journal, processes=share)
    shutil.copy(tmp_path / "elsewhere/part-2-1.jsonl", tmp_path / "state")
    assert (result.scores, result.pace.images) == (whole.scores, 6)
    again = judged(Knowing(data, "instance", []), data, journal=journal)
    assert (again.scores, again.pace.fresh) == (whole.scores, 0)
    with pytest.raises(ValueError, match=r"other settings, \{'model': 'knowing'\}"):
        Journal(tmp_path / "state", {"model": "guessing"}).read()
    shutil.copy(part, part.with_name("part-9-0.jsonl"))
    with pytest.raises(ValueError, match="images of another part"):
        journal.read()
    part.write_text(lines[0] + "{\n")
    with pytest.raises(ValueError, match="damaged"):
        journal.read()


def test_what_does_not_go_together_is_refused(coco_panoptic, shared, tmp_path, capsys):
    panoptic, root = network("panoptic", coco.panoptic_categories()), shared / "data/coco_instance/tinycoco"
    data = open_dataset(root, "val", "instance")
    with pytest.raises(ValueError, match=r"expected data for panoptic models \(PanopticFiles\), got InstanceFiles"):
        judged(panoptic, data)
    renamed = replace(data.categories, names=("human", *data.classes[1:]))
    with pytest.raises(ValueError, match="class 0 of the data set is 'human', of the model 'person'"):
        judged(network("instance", coco.instance_categories()), replace(data, categories=renamed))
    with pytest.raises(ValueError, match="limit: expected at least 1, got 0"):
        judged(Knowing(data, "instance"), data, limit=0)
    path = saved(panoptic, tmp_path)
    for argv, complaint in (
        ([path, f"coco-instance:{root}"], "is data for instance models; for panoptic there is coco-panoptic"),
        ([path, root], "expected the layout of one of these: coco-panoptic ("),
        ([path, coco_panoptic, "--flip"], "--flip: is for semantic models"),
        ([path, coco_panoptic, "--against", "dense"], "--against: is for semantic, depth models"),
        ([path, coco_panoptic, "--option", "official_padding"], "give a method with -m"),
        ([path, coco_panoptic, "-m", SPEC, "--option", "official_paint"], "unknown option official_paint; accepted: "),
        ([path, "ade20k-panoptic:" + str(coco_panoptic)], "expected this folder of ADE20K"),
        (
            ["segmenter-mini", "toy", "--submission", tmp_path / "out"],
            "--submission: is for panoptic, instance",
        ),
    ):
        assert main(["evaluate", *map(str, argv)]) == 2
        assert complaint in capsys.readouterr().err


def test_own_classes_must_be_the_model_s(tmp_path, capsys):
    assert main(["evaluate", "segmenter-mini", "toy", "--limit", "1", "--threads", "1"]) == 0
    root = tmp_path / "mine"
    for folder in ("images/val", "labels/val"):
        (root / folder).mkdir(parents=True)
        Image.new("L", (40, 30)).save(root / folder / "a.png")
    names = list(expedit.load("segmenter-mini").card.classes)
    for mine, status in ((names, 0), ([names[1], names[0], *names[2:]], 2)):
        (root / "classes.txt").write_text("\n".join(mine))
        assert main(["evaluate", "segmenter-mini", str(root), "--threads", "1"]) == status
    assert f"class 0 of the data set is '{names[1]}', of the model '{names[0]}'" in capsys.readouterr().err
