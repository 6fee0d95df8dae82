"""Programs of networks of transformers: the library still prepares and reads out, as it does for the network."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import expedit
import families
from expedit.cli import main
from expedit.data.coco import panoptic_categories
from expedit.models.programs import Runner
from families import PROCESSORS, write_folder
from small_mask2former import SPEC, network

METHOD = "expedit(alpha=2, grid=0.5)"
PHOTO = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
OFF_LATTICE = ("dinov2", "depth-anything", "dinov3", "eomt")
"""Some of those whose tokens may leave the lattice."""

READ = {
    "dinov2": {},
    "dinov3-backbone": {},
    "sam": {},
    "sam2-vision": {},
    "beit": {},
    "depth-anything": {},
    "zoedepth": {},
    "eomt": {"task": "panoptic"},
    "eomt-dinov3": {"size": {"shortest_edge": 64, "longest_edge": None}, "do_pad": False, "do_split_image": True},
    "maskformer": {"task": "semantic"},
    "oneformer": {"task": "semantic"},
}
"""One network of every kind of preparation and read-out, and how it is loaded."""


@pytest.fixture
def torch_runs(monkeypatch):
    """Programs are run by torch, two images at a time, instead of written; returns what they were written with."""
    written = []

    def write(capture, path, metadata):
        path.write_bytes(b"\x08\x08\x12\x07pytorch")

        def run(pixels):
            return [out.numpy() for out in capture.program(torch.from_numpy(pixels))]

        shape = (2, *capture.pixels.shape[1:])
        written[:] = [Runner(run, shape, capture.outputs, metadata)]
        return capture.program

    monkeypatch.setattr("expedit.exporting.program.WRITERS", {"onnx": write})
    monkeypatch.setattr("expedit.checkpoints.exported.RUNTIMES", {"ONNX program": lambda path: written[0]})
    return written


def same(ours, theirs):
    """Every array of one prediction is that of the other, nearly."""
    assert ours.task == theirs.task
    assert [(one.id, one.category) for one in ours.segments] == [(one.id, one.category) for one in theirs.segments]
    for name in ("labels", "masks"):
        if (wanted := getattr(theirs, name)) is not None:
            assert (getattr(ours, name) != wanted).sum() <= 0.001 * wanted.size
    for name in ("depth", "features"):
        if (wanted := getattr(theirs, name)) is not None:
            found = getattr(ours, name)
            assert np.linalg.norm(found - wanted) <= 1e-4 * np.linalg.norm(wanted)


def size_of(model):
    """(height, width) that the processor makes of the photograph."""
    return tuple(model.prepared(PHOTO)["pixel_values"].shape[2:])


@pytest.mark.parametrize("name", READ)
def test_a_program_is_read_out_as_the_network_is(name, torch_runs, tmp_path):
    settings = dict(READ[name])
    task = settings.pop("task", None)
    write_folder(name, tmp_path / "model", **settings)
    model = expedit.load(tmp_path / "model", task=task)
    size = None if model.card.task == "features" else size_of(model)
    assert expedit.export(model, tmp_path / "a.onnx", METHOD, size=size).difference == 0
    program, fast = expedit.load(tmp_path / "a.onnx"), expedit.accelerate(model, METHOD)
    assert program.card == model.card
    same(expedit.predict(program, PHOTO), expedit.predict(fast, PHOTO))


def test_a_mask2former_is_read_out_from_its_program(torch_runs, tmp_path):
    """Its size is that of the photograph as the card resizes and pads it: queries would see more padding."""
    model = network("panoptic", panoptic_categories())
    assert expedit.export(model, tmp_path / "a.onnx", SPEC, size=(96, 128)).difference == 0
    program, fast = expedit.load(tmp_path / "a.onnx"), expedit.accelerate(model, SPEC)
    found = expedit.predict(program, PHOTO)
    assert found.segments
    same(found, expedit.predict(fast, PHOTO))
    with pytest.raises(ValueError, match=r"96 x 128 pixels, and the image has 96 x 96 .*--size 96 96"):
        expedit.predict(program, PHOTO[:, :90])


@pytest.mark.parametrize("name", ["dinov2", "upernet-swin"])
def test_a_reduced_network_can_be_shown(name):
    """Exporters of ONNX begin with it."""
    method = {"dinov2": METHOD, "upernet-swin": "expedit(alpha=3, grid=(2, 2))"}[name]
    assert "LayerNorm" in repr(expedit.accelerate(families.network(name), method))


def test_features_are_of_images_of_the_size_asked_for(torch_runs, tmp_path):
    write_folder("dinov2", tmp_path / "model")
    model = expedit.load(tmp_path / "model")
    expedit.export(model, tmp_path / "a.onnx", size=(98, 126))
    found = expedit.predict(expedit.load(tmp_path / "a.onnx"), PHOTO)
    same(found, expedit.predict(expedit.load(tmp_path / "model", size=(98, 126)), PHOTO))
    assert model.size == (70, 70)


def test_an_image_that_the_processor_makes_larger_or_smaller_is_refused(torch_runs, tmp_path):
    write_folder("depth-anything", tmp_path / "model")
    model = expedit.load(tmp_path / "model")
    assert expedit.export(model, tmp_path / "a.onnx").shape == (1, 3, 98, 98)
    h, w = size_of(model)
    with pytest.raises(ValueError, match=f"98 x 98 pixels, and the image has {h} x {w} .*--size {h} {w}"):
        expedit.predict(expedit.load(tmp_path / "a.onnx"), PHOTO)


WRONG = {
    "no JSON": lambda told: "{",
    "no mapping": lambda told: "[]",
    "deep": lambda told: "[" * 100_000,
    "family": lambda told: json.dumps({**told, "family": "os.system"}),
    "family of another kind": lambda told: json.dumps({**told, "family": []}),
    "no processor": lambda told: json.dumps({**told, "processor": None}),
    "processor": lambda told: json.dumps({**told, "processor": {"image_processor_type": "Trainer"}}),
    "patch": lambda told: json.dumps({**told, "patch": "x"}),
    "no numbers": lambda told: json.dumps({**told, "patch": [None, None]}),
    "fields": lambda told: json.dumps({**told, "family": "SegformerForSemanticSegmentation"}),
    "other fields": lambda told: json.dumps({**told, "family": "BeitForSemanticSegmentation"}),
}
"""What the metadata may say of a network that it is not."""


@pytest.mark.parametrize("fault", WRONG)
def test_metadata_that_do_not_fit_are_one_sentence(fault, torch_runs, tmp_path):
    write_folder("dinov2", tmp_path / "model")
    expedit.export(expedit.load(tmp_path / "model"), tmp_path / "a.onnx")
    told = json.loads(torch_runs[0].metadata["network"])
    torch_runs[0] = replace(torch_runs[0], metadata={**torch_runs[0].metadata, "network": WRONG[fault](told)})
    with pytest.raises(ValueError, match=r"a\.onnx: ") as caught:
        expedit.load(tmp_path / "a.onnx")
    assert len(str(caught.value).splitlines()) == 1


def test_a_program_is_not_written_again(torch_runs, tmp_path):
    write_folder("dinov2", tmp_path / "model")
    expedit.export(expedit.load(tmp_path / "model"), tmp_path / "a.onnx")
    with pytest.raises(ValueError, match="reads them from a checkpoint"):
        expedit.export(expedit.load(tmp_path / "a.onnx"), tmp_path / "b.onnx")


@pytest.fixture(scope="module")
def runtimes():
    pytest.importorskip("onnxscript", reason="needs the extra export")
    pytest.importorskip("onnxruntime", reason="needs the extra export")


def test_the_commands_write_and_run_onnx_of_a_network_of_transformers(runtimes, tmp_path, capsys):
    write_folder("vit", tmp_path / "model")
    out = tmp_path / "a.onnx"
    assert main(["export", str(tmp_path / "model"), "-o", str(out), "--batch", "dynamic"]) == 0
    assert "dynamic x 3 x 64 x 64; run and compared" in capsys.readouterr().out
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    assert (
        main(["predict", str(out), str(tmp_path / "photo.png"), "--save-features", "-o", str(tmp_path / "done")]) == 0
    )
    wanted = expedit.predict(expedit.load(tmp_path / "model"), PHOTO).features
    found = np.load(tmp_path / "done" / "photo_features.npy")
    assert np.linalg.norm(found - wanted) <= 1e-4 * np.linalg.norm(wanted)


ASKED = [(name, method) for name in PROCESSORS for method in (None, METHOD) if name != "oneformer"]
ASKED += [(name, method) for name in OFF_LATTICE for method in ("tome(ratio=0.3)", "evit(keep_rate=0.7, layers=(1,))")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "method"), ASKED)
def test_a_network_runs_in_onnx(name, method, runtimes, tmp_path):
    write_folder(name, tmp_path / "model")
    model = expedit.load(tmp_path / "model")
    fast = model if method is None else expedit.accelerate(model, method)
    size = None if model.card.task == "features" else size_of(model)
    batch = 1 if name == "zoedepth" else "dynamic"
    assert expedit.export(model, tmp_path / "a.onnx", method, size=size, batch=batch).difference < 1e-4
    same(expedit.predict(expedit.load(tmp_path / "a.onnx"), PHOTO), expedit.predict(fast, PHOTO))


@pytest.mark.slow
def test_oneformer_says_what_onnx_does_not_know(runtimes, tmp_path):
    write_folder("oneformer", tmp_path / "model")
    with pytest.raises(ValueError, match=r"cannot be written as onnx \(No ONNX function found for .*_is_all_true"):
        expedit.export(expedit.load(tmp_path / "model"), tmp_path / "a.onnx")
