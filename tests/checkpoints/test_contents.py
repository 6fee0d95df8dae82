"""Files of weights: known by their contents, read without trust, and what is none is named in one sentence."""

import argparse
import gzip
import io
import json
import pathlib
import pickle
import sys
import tarfile
import types
import zipfile
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import expedit
from expedit.checkpoints.contents import opened, read_tensors
from expedit.models import Segmenter

ENDINGS = [".pth", ".pt", ".ckpt", ".pkl", ".bin", ".safetensors", ".tar", ".txt", ""]
VALUES = torch.zeros(1000)


@pytest.fixture
def small():
    return Segmenter(classes=3, image_size=(32, 32), patch=8, width=16, depth=1, heads=1, head_layers=1).eval()


def as_zip(state, path):
    torch.save({"model": state}, path)


def as_stream(state, path):
    torch.save({"model": state}, path, _use_new_zipfile_serialization=False)


def as_protocol_4(state, path):
    torch.save({"model": state}, path, pickle_protocol=4)


def as_arrays(state, path):
    path.write_bytes(pickle.dumps({"model": {name: value.numpy() for name, value in state.items()}}))


def as_arrays_in_torch(state, path):
    torch.save({"model": {name: value.numpy() for name, value in state.items()}}, path)


WRITERS = [as_zip, as_stream, as_protocol_4, as_arrays, as_arrays_in_torch, save_file]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("ending", ENDINGS)
@torch.inference_mode()
def test_the_ending_says_nothing(small, tmp_path, write, ending):
    path = tmp_path / f"model{ending}"
    write(small.state_dict(), path)
    again, image = expedit.load(path, norm_eps=1e-6, pos_embed="bicubic"), torch.randn(1, 3, 32, 32)
    assert torch.equal(small(image), again(image))
    assert again.numerics == small.numerics


@pytest.mark.parametrize("write", WRITERS)
def test_numerics_are_those_of_the_keys_in_every_format(small, tmp_path, write):
    write(small.state_dict(), tmp_path / "model")
    numerics = expedit.load(tmp_path / "model").numerics
    assert (numerics.norm_eps, numerics.pos_embed) == (1e-5, "bilinear")


KINDS = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64")


@pytest.mark.parametrize("write", [as_zip, as_stream, as_protocol_4])
def test_every_kind_of_number_and_every_view(tmp_path, write):
    base = torch.arange(24).reshape(2, 3, 4) - 7
    state = {kind: base.to(getattr(torch, kind)) for kind in KINDS}
    state |= {"transposed": base.float().permute(2, 1, 0), "part": base.float()[1:, ::2, 1:3], "scalar": base.sum()}
    state |= {"parameter": torch.nn.Parameter(base.float()), "empty": torch.zeros(0, 4), "last": base.float()[1, 2, 3]}
    write(state, tmp_path / "m")
    found = read_tensors(tmp_path / "m")
    assert list(found) == list(state)
    for name, value in state.items():
        want = value.detach().float() if value.is_floating_point() else value
        assert torch.equal(found[name], want), name
        assert found[name].dtype == want.dtype
        assert found[name].is_contiguous()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("old_format", [True, False])
@pytest.mark.parametrize("place", ["weights", "beside"])
def test_code_in_a_checkpoint_does_not_run(small, tmp_path, protocol, old_format, place):
    bomb, state = Bomb(tmp_path / "owned"), small.state_dict()
    content = {"model": {**state, "x": bomb}} if place == "weights" else {"model": state, "args": bomb}
    path = tmp_path / "evil.pth"
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(ValueError, match=r"evil\.pth: expected tensors and plain values.*nothing was run"):
        expedit.load(path)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(bomb, protocol))
    with pytest.raises(ValueError, match=r"plain\.pth: .* asks for '_?io\.open', which could run code"):
        expedit.load(tmp_path / "plain.pth")
    assert not (tmp_path / "owned").exists()


def pretend(monkeypatch, name, **parts):
    """A module called ``name`` that is not installed here, with classes of its own."""
    for end in range(1, name.count(".") + 1):
        parent = ".".join(name.split(".")[:end])
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    module = types.ModuleType(name)
    for part, kind in parts.items():
        kind.__module__, kind.__qualname__ = name, part
        setattr(module, part, kind)
    monkeypatch.setitem(sys.modules, name, module)


class Buffer:
    def mean(self):
        """Pickled by its name: a call of getattr."""


class Attributes(dict):
    pass


@pytest.mark.parametrize("old_format", [True, False])
def test_what_trainers_keep_beside_the_weights_does_no_harm(small, tmp_path, monkeypatch, old_format):
    pretend(monkeypatch, "mmengine.logging.history_buffer", HistoryBuffer=Buffer)
    pretend(monkeypatch, "pytorch_lightning.utilities.parsing", AttributeDict=Attributes)
    buffer = Buffer()
    buffer.history, buffer.methods = np.arange(4.0), {"mean": Buffer.mean}
    kept = {
        "args": argparse.Namespace(lr=np.float64(0.1), out=pathlib.Path("runs")),
        "message_hub": {"loss": buffer, "counts": defaultdict(int, a=1)},
        "hyper_parameters": Attributes(width=16),
        "optimizer": torch.optim.AdamW(small.parameters()).state_dict(),
        "rng": torch.get_rng_state(),
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
    }
    path = tmp_path / "epoch_9.pth"
    torch.save({"state_dict": small.state_dict(), **kept}, path, _use_new_zipfile_serialization=not old_format)
    assert path.read_bytes().startswith(b"PK") != old_format
    with torch.inference_mode():
        image = torch.randn(1, 3, 32, 32)
        loaded = expedit.load(path, norm_eps=1e-6, pos_embed="bicubic")
        assert torch.equal(small(image), loaded(image))


@pytest.mark.parametrize("wrapped", [lambda model: model, lambda model: {"epoch": 1, "model": model}])
@pytest.mark.parametrize("old_format", [True, False])
def test_a_whole_pickled_model_is_named(small, tmp_path, wrapped, old_format):
    torch.save(wrapped(small), tmp_path / "whole.pt", _use_new_zipfile_serialization=not old_format)
    with pytest.raises(
        ValueError, match=r"a whole pickled model \(expedit\.models\.segmenter\.Segmenter\).*state_dict"
    ):
        expedit.load(tmp_path / "whole.pt")


def zipped(**files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return stream.getvalue()


def tarred():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"))
    return stream.getvalue()


def scripted():
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), stream)
    return stream.getvalue()


def arrays():
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(2))
    return stream.getvalue()


FOREIGN = {
    "an empty file": lambda: b"",
    "a Git LFS pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 1265432\n",
    "a web page": lambda: b"\n <!DOCTYPE html><html><head><title>404 Not Found</title></head></html>",
    "JSON text": lambda: json.dumps({"weight_map": {}}).encode(),
    "a text file": lambda: b"lr: 0.1\nepochs: 7\n",
    "packed with gzip": lambda: gzip.compress(b"x"),
    "a tar archive": tarred,
    "a zip archive without a torch checkpoint": lambda: zipped(photo="x"),
    "a TorchScript program": scripted,
    "an archive of numpy arrays": arrays,
    "one array of numpy": lambda: b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'}",
    "an HDF5 file": lambda: b"\x89HDF\r\n\x1a\n" + bytes(64),
    r"a picture \(PNG\)": lambda: b"\x89PNG\r\n\x1a\n" + bytes(64),
    "GGUF": lambda: b"GGUF\x03\x00\x00\x00" + bytes(64),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FOREIGN)
def test_other_files_are_called_by_name(tmp_path, kind):
    path = tmp_path / "model_final.pth"
    path.write_bytes(FOREIGN[kind]())
    with pytest.raises(ValueError, match=rf"^[^\n]*model_final\.pth: expected a checkpoint, got [^\n]*{kind}[^\n]*$"):
        expedit.load(path)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("share", [0.0005, 0.3, 0.9, 0.999])
def test_files_cut_short(small, tmp_path, write, share):
    path = tmp_path / "short.pth"
    write(small.state_dict(), path)
    data = path.read_bytes()
    path.write_bytes(data[: max(int(share * len(data)), 9)])
    with pytest.raises(ValueError, match=r"short\.pth: .*(damaged|cut short)"):
        expedit.load(path)


def test_a_flipped_bit_is_noticed(small, tmp_path):
    path = tmp_path / "m.pth"
    as_zip(small.state_dict(), path)
    data = bytearray(path.read_bytes())
    place = data.index(small.state_dict()["encoder.pos_embed"].numpy().tobytes())
    data[place + 100] ^= 4
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"m\.pth: encoder\.pos_embed: .*checksum of .* differs: it is damaged"):
        expedit.load(path)


def test_an_archive_that_blows_up_is_refused(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))
    with pytest.raises(ValueError, match=r"bomb\.pth: .*packed"):
        expedit.load(path)


@pytest.mark.parametrize(
    "state",
    [
        {"x": torch.zeros(1).expand(1 << 40)},
        {"x": torch.zeros(1).expand(1 << 62)},  # its number of bytes is 0 in 64 bits
        {str(i): VALUES for i in range(100)},
        {str(i): VALUES[:-i] for i in range(1, 100)},
    ],
    ids=["one", "beyond 64 bits", "one tensor by many names", "views of one storage"],
)
@pytest.mark.parametrize("write", [as_zip, as_stream])
def test_tensors_that_blow_up_are_refused(tmp_path, state, write):
    path = tmp_path / "swollen.pth"
    write(state, path)
    with pytest.raises(ValueError, match=r"swollen\.pth: expected tensors of at most 2 times the \d+ bytes"):
        read_tensors(path)


def test_tied_weights_are_read(tmp_path):
    torch.save({"a": VALUES, "b": VALUES, "one": torch.zeros(1).expand(8)}, tmp_path / "tied.pth")
    state = read_tensors(tmp_path / "tied.pth")
    assert {name: len(value) for name, value in state.items()} == {"a": 1000, "b": 1000, "one": 8}
    assert state["a"].data_ptr() != state["b"].data_ptr()


ODD = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "compressed": lambda: torch.eye(3).to_sparse_csr(),
    "nested": lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    "quantized": lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.quint8),
    "meta": lambda: torch.zeros(3, device="meta"),
    "8 bits": lambda: torch.zeros(3).to(torch.float8_e4m3fn),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ODD)
def test_tensors_of_other_kinds_are_named_where_they_are_needed(tmp_path, kind):
    torch.save({"model": {"good": VALUES, "odd": ODD[kind]()}}, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=r"odd\.pth: odd: expected a plain tensor"):
        read_tensors(tmp_path / "odd.pth")
    with opened(tmp_path / "odd.pth") as contents:
        state = contents.states[("model",)]
        assert torch.equal(contents.read({"good": state["good"]})["good"], VALUES)


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}, {"a": 1}, {1: VALUES}, "text", None, OrderedDict()])
def test_no_weights_inside(tmp_path, content):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=r"odd\.pth: expected a dictionary of named tensors, got a \w+ without any"):
        expedit.load(tmp_path / "odd.pth")


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_tensors(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match="expected a regular file"):
        read_tensors(tmp_path)


def test_big_endian_numbers_are_refused(small, tmp_path):
    as_zip(small.state_dict(), tmp_path / "little.pth")
    with zipfile.ZipFile(tmp_path / "little.pth") as old, zipfile.ZipFile(tmp_path / "big.pth", "w") as new:
        for entry in old.infolist():
            content = b"big" if entry.filename.endswith("byteorder") else old.read(entry)
            new.writestr(entry.filename, content)
    with pytest.raises(ValueError, match=r"big\.pth: .*big-endian"):
        expedit.load(tmp_path / "big.pth")


def test_whatever_happens_the_file_is_closed(small, tmp_path):
    """A mapped file cannot be closed while something looks into it, and the error of that would hide the reason."""
    as_zip({**small.state_dict(), "x": torch.zeros(3).to(torch.float8_e4m3fn)}, tmp_path / "m.pth")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"m\.pth: x: expected a plain tensor"):
            read_tensors(tmp_path / "m.pth")
    open_files = [link.readlink() for link in pathlib.Path("/proc/self/fd").iterdir() if link.exists()]
    assert tmp_path / "m.pth" not in open_files


def test_a_broken_program_is_refused_by_the_runtime_of_its_kind(tmp_path):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "model_final.pth"
    path.write_bytes(b"\x08\x07\x12\x07pytorch\x1a\x052.0.1" + bytes(64))
    with pytest.raises(ValueError, match=r"model_final\.pth: ONNX Runtime cannot read it"):
        expedit.load(path)
