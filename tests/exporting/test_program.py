"""Exported files compute what the model does, and are taken as models."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import expedit
from expedit import cli
from expedit.checkpoints.safetensors_format import save
from expedit.data.writing import is_ours
from expedit.exporting.program import default_size
from expedit.models import Segmenter
from expedit.models.card import generic_card

SIDE = 48


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = Segmenter(classes=3, image_size=(SIDE, SIDE), patch=8, width=16, depth=2, heads=2, head_layers=None)
    made.card = replace(generic_card(3, SIDE), stride=32)
    return made.eval()


@pytest.fixture(scope="module")
def runtimes():
    pytest.importorskip("onnxscript", reason="needs the extra export")
    pytest.importorskip("onnxruntime", reason="needs the extra export")


def image(h, w):
    return np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "method",
    [
        "expedit(alpha=1, grid=(4, 4), top_k=2, restore='delta')",
        pytest.param("tome(ratio=0.3)", marks=pytest.mark.slow),
        pytest.param("evit(keep_rate=0.7, layers=(1,))", marks=pytest.mark.slow),
        pytest.param("pitome(keep=0.8)", marks=pytest.mark.slow),
    ],
)
def test_a_program_of_torch_takes_any_number_of_images(model, method, tmp_path):
    done = expedit.export(model, tmp_path / "a.pt2", method, batch="dynamic")
    assert done.difference < 1e-5
    assert done.shape == ("dynamic", 3, SIDE, SIDE)
    fast = expedit.accelerate(model, method)
    pixels = torch.randn(3, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(torch.export.load(tmp_path / "a.pt2").module()(pixels)[0], fast(pixels))
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt2"]
    assert is_ours(tmp_path / "a.pt2")


@pytest.mark.slow
def test_onnx_and_openvino_run_tome_and_are_taken_as_models(model, runtimes, tmp_path):
    """Equal tokens leave ties, which fall in ONNX as they do here; one file gets both, since each takes seconds."""
    pytest.importorskip("openvino", reason="needs the extra export")
    method = "tome(ratio=0.3)"
    done = expedit.export(model, tmp_path / "a.xml", method, batch="dynamic")
    assert done.difference < 1e-4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.xml"]
    assert is_ours(tmp_path / "a.xml")
    loaded, fast = expedit.load(tmp_path / "a.xml"), expedit.accelerate(model, method)
    assert loaded.card == model.card
    for size in ((60, 90), (40, 44)):
        ours, theirs = expedit.predict(loaded, image(*size), window_batch=2), expedit.predict(fast, image(*size))
        assert ours.labels.shape == size
        if min(size) >= SIDE:
            assert (ours.labels == theirs.labels).mean() > 0.99


def test_the_command_writes_onnx_that_predict_takes(model, runtimes, tmp_path, capsys):
    save(model, tmp_path / "model.safetensors")
    out, spec = tmp_path / "fast.onnx", "expedit(alpha=1, grid=(4, 4), top_k=2)"
    assert cli.main(["export", str(tmp_path / "model.safetensors"), "-m", spec, "-o", str(out)]) == 0
    assert "1 x 3 x 48 x 48; run and compared" in capsys.readouterr().out
    assert is_ours(out)
    Image.fromarray(image(60, 90)).save(tmp_path / "photo.png")
    assert cli.main(["predict", str(out), str(tmp_path / "photo.png"), "-o", str(tmp_path / "done")]) == 0
    assert (tmp_path / "done" / "photo_labels.png").exists()
    ours = expedit.predict(expedit.load(out), image(60, 90)).labels
    theirs = expedit.predict(expedit.accelerate(model, spec), image(60, 90)).labels
    assert (ours == theirs).mean() > 0.99
    with pytest.raises(ValueError, match="exported for 48 x 48 pixels, and the image has 56 x 48"):
        expedit.load(out)(torch.zeros(1, 3, 56, 48))


def test_a_file_that_computes_something_else_is_not_kept(model, tmp_path, monkeypatch):
    def wrong(capture, path, metadata):
        path.write_bytes(b"x")
        return lambda pixels: tuple(1.01 * out for out in capture.program(pixels))

    monkeypatch.setattr("expedit.exporting.program.WRITERS", {"torch": wrong})
    with pytest.raises(ValueError, match=r"does not compute what the model does \(relative difference 0\.01"):
        expedit.export(model, tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("a.pth", {}, "expected a file that ends in .onnx, .pt2, .xml"),
        ("a.pt2", {"format": "onnx"}, r"ends in \.onnx"),
        ("a.pt2", {"method": "act(query_hashes=4)"}, "depends on the image"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(model, tmp_path, name, arguments, message):
    with pytest.raises(ValueError, match=message):
        expedit.export(model, tmp_path / name, **arguments)


def test_the_size_is_the_crop_or_a_lying_image():
    card = generic_card(3, 64)
    assert default_size(card) == (64, 64)
    assert default_size(replace(card, crop=None, stride=None, resize=(1333, 800), multiple=32)) == (800, 1344)
    with pytest.raises(ValueError, match="give the height and width"):
        default_size(replace(card, crop=None, stride=None, resize=None))


@pytest.mark.slow
def test_a_package_of_native_code_computes_what_the_model_does_and_is_never_loaded(model, tmp_path):
    path, method = tmp_path / "a.pt2", "expedit(alpha=1, grid=(4, 4), top_k=2)"
    assert expedit.export(model, path, method, batch="dynamic", format="aoti").difference < 1e-5
    assert is_ours(path)
    program, pixels = torch._inductor.aoti_load_package(str(path)), torch.randn(3, 3, SIDE, SIDE)
    assert program.get_metadata()["method"].startswith("expedit(")
    with torch.no_grad():
        torch.testing.assert_close(program(pixels)[0], expedit.accelerate(model, method)(pixels))
    with pytest.raises(ValueError, match=r"a\.pt2: .*machine code, which expedit never runs"):
        expedit.load(path)


def test_native_code_needs_a_compiler(model, tmp_path, monkeypatch):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler, and there is none"):
        expedit.export(model, tmp_path / "a.pt2", format="aoti")
    assert not list(tmp_path.iterdir())


def test_what_an_exporter_cannot_do_is_one_sentence(model, tmp_path, monkeypatch):
    def refuses(capture, path, metadata):
        raise RuntimeError("step 1 of 3") from RuntimeError("the batch is 2\nand so on")

    monkeypatch.setattr("expedit.exporting.program.WRITERS", {"torch": refuses})
    with pytest.raises(ValueError, match=r"a\.pt2: dense cannot be written as torch \(the batch is 2\)") as caught:
        expedit.export(model, tmp_path / "a.pt2", batch="dynamic")
    assert str(caught.value).endswith("a fixed number of images (--batch N), or another format")
    assert not list(tmp_path.iterdir())


def test_weights_beside_the_file_are_never_somebody_elses(tmp_path, capsys):
    (tmp_path / "a.bin").write_text("mine")
    assert cli.main(["export", "segmenter-mini", "-o", str(tmp_path / "a.xml")]) == 2
    assert "expedit did not write it" in capsys.readouterr().err
