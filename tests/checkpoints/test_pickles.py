"""Pickles: official files are read exactly, from hostile ones nothing runs and nothing blows up."""

import codecs
import collections
import io
import os
import pickle
import pickletools
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from expedit.checkpoints.contents import read_tensors
from expedit.checkpoints.pickles import MOST_ITEMS, MOST_NAMES, Record, unpickle


class Calls:
    """Pickles as a call of ``function(*arguments)``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def dump(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol(tmp_path, protocol):
    arrays = {
        "f4": np.random.default_rng(0).standard_normal((3, 4), dtype=np.float32),
        "f2": np.arange(6, dtype=np.float16).reshape(2, 3),
        "big": np.arange(4, dtype=">f4"),
        "i8": np.arange(-3, 3),
        "b": np.array([True, False]),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 4), np.float32),
    }
    content = {"model": collections.OrderedDict(arrays), "__author__": "someone", "lr": np.float64(0.1)}
    state = read_tensors(dump(tmp_path / "a.pkl", content, protocol))
    assert list(state) == list(arrays)
    for name, array in arrays.items():
        assert torch.equal(
            state[name],
            torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))).view(array.shape),
        )


def test_official_files(shared):
    folder = shared / "goldens" / "mask2former"
    whole = read_tensors(folder / "mask2former_t_detectron2.pkl")
    part = read_tensors(folder / "mask2former_t_detectron2_fragment_protocol2.pkl")
    assert len(whole) == 266
    assert len(part) == 8
    with (folder / "mask2former_t_detectron2.pkl").open("rb") as file:
        reference = pickle.load(file)["model"]
    for name, value in whole.items():
        assert torch.equal(value, torch.from_numpy(reference[name])), name
    assert all(torch.equal(value, whole[name]) for name, value in part.items())
    assert load_file(folder / "mask2former_t_baseline_128x192.safetensors")


def hostile(marker):
    """Pickles that would leave ``marker`` behind, or worse."""
    touch = f"touch {marker}"
    array = np.zeros(2, np.float32)
    yield "system", pickle.dumps(Calls(os.system, touch), 2)
    yield "eval", pickle.dumps(Calls(eval, f"open({str(marker)!r}, 'w')"), 4)
    yield "nested", pickle.dumps({"model": {"w": [array, {"deep": (Calls(os.system, touch),)}]}}, 4)
    yield "reduce in reduce", pickle.dumps({"model": Calls(getattr, Calls(__import__, "os"), "system")}, 2)
    yield "through an array", pickle.dumps({"model": {"w": np.array([Calls(os.system, touch)], dtype=object)}}, 4)
    yield "instance opcode", b"(S'" + touch.encode() + b"'\nios\nsystem\n."
    dotted = b"\x8c\x0bcollections\x8c\x1eOrderedDict.__init__.__globals__\x93."
    yield "dotted name", b"\x80\x04" + dotted
    yield "codec", b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R."
    yield "persistent id", b"\x80\x02X\x01\x00\x00\x00aQ."
    yield "extension registry", b"\x80\x02\x82\x01."


@pytest.mark.parametrize("index", range(10))
def test_hostile_files_are_refused(tmp_path, index):
    name, data = list(hostile(tmp_path / "marker"))[index]
    path = tmp_path / "bad.pkl"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"bad\.pkl: (this is|expected)"):
        read_tensors(path)
    assert not (tmp_path / "marker").exists(), name


def test_refusals_name_what_was_asked_for(tmp_path):
    with pytest.raises(ValueError, match=r"it asks for '(posix|os|nt)\.system', which could run code; nothing was run"):
        read_tensors(dump(tmp_path / "a.pkl", {"model": Calls(os.system, "true")}))
    with pytest.raises(ValueError, match=r"builtins\.eval|__builtin__\.eval"):
        read_tensors(dump(tmp_path / "a.pkl", Calls(eval, "1")))


def test_arrays_that_lie_are_refused(tmp_path):
    good = pickle.dumps({"model": {"w": np.zeros((2, 3), np.float32)}}, 2)
    assert good.count(b"K\x02K\x03\x86") == 1
    path = tmp_path / "a.pkl"
    for lie in (b"K\x09K\x03\x86", b"K\x02J\xff\xff\xff\xff\x86"):
        path.write_bytes(good.replace(b"K\x02K\x03\x86", lie))
        with pytest.raises(ValueError, match=r"bytes of a float32 array of shape|sizes that are positive"):
            read_tensors(path)
    with pytest.raises(ValueError, match="an array of numbers, not of"):
        read_tensors(dump(path, {"model": {"w": np.array(["text"])}}))


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_files_cut_short(tmp_path, share):
    data = pickle.dumps({"model": {"w": np.zeros((20, 30), np.float32)}}, 4)
    path = tmp_path / "a.pkl"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="damaged"):
        read_tensors(path)


def test_absurd_lengths_do_not_end_the_process(tmp_path):
    path = tmp_path / "a.pkl"
    for opcode, size in ((b"\x8e", struct.pack("<Q", 1 << 62)), (b"r", struct.pack("<I", (1 << 32) - 1))):
        path.write_bytes(b"\x80\x04N" + opcode + size + b".")
        with pytest.raises(ValueError, match="expected"):
            read_tensors(path)
    assert pickletools.code2op["\x8e"].name == "BINBYTES8"


@pytest.mark.parametrize(
    "content", [[1, 2], {"model": {}}, {"model": [1]}, {"model": {"a": 1}}, {1: np.zeros(2)}, "text"]
)
def test_other_content_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match="expected"):
        read_tensors(dump(tmp_path / "a.pkl", content))


@pytest.mark.parametrize("kind", ["array", "text"])
def test_ten_thousand_names_for_one_megabyte_are_refused(tmp_path, kind):
    text, array = "\0" * (1 << 20), np.zeros(1 << 20, np.uint8)
    state = {str(i): array if kind == "array" else Calls(codecs.encode, text, "latin1") for i in range(10_000)}
    path = dump(tmp_path / "a.pkl", {"model": state})
    assert path.stat().st_size < 2 << 20
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"a\.pkl: expected (tensors of at most 2|a dictionary of named tensors)"):
        read_tensors(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_tensors(tmp_path / "none.pkl")


def key_of(tuples, deep=b""):
    """A dictionary with a tuple as its key."""
    return b"\x80\x02}N" + tuples + b"Ns" + deep + b"."


def nested(opcode, closing, depth=1 << 16):
    return b"\x80\x02" + opcode * depth + b"N" + closing * depth + b"."


HOSTILE = {
    "a tuple too deep to be hashed": (key_of(b"\x85" * (1 << 20)), f"a tuple of {MOST_ITEMS + 1} items"),
    "a tuple that is hashed for ever": (key_of(b"2\x86" * 200), r"a tuple of \d+ items"),
    "the same from the memo": (key_of(b"q\x01h\x01\x86" * 200), r"a tuple of \d+ items"),
    "a set of tuples": (b"\x80\x04}(N" + b"\x85" * (1 << 20) + b"\x91Ns.", r"a tuple of \d+ items"),
    "two billion places of memo": (b"\x80\x02Nr\xff\xff\xff\x7f.", "LONG_BINPUT of 0x7fffffff"),
    "integers that collide": (b"\x80\x02}\x8a\x10" + bytes(15) + b"\x01Ns.", "LONG1 of 0x"),
    "a longer integer than there is": (b"\x80\x02\x8b\xff\xff\xff\x7f.", "not enough data in stream to read long4"),
    "more steps than a checkpoint": (b"\x80\x02N" + b"0N" * (1 << 19) + b".", "more than 1048576 steps"),
    "more names than a checkpoint": (
        b"\x80\x02" + b"".join(b"ctorch._utils\n_rebuild_%d\n0" % i for i in range(MOST_NAMES + 1)) + b"N.",
        "more than 1024 different names",
    ),
    "nothing to take": (b"\x80\x02\x85.", "TUPLE1 has nothing to work on"),
    "no mark": (b"\x80\x02Nt.", "damaged"),
    "no such memo": (b"\x80\x02h\x07.", "damaged"),
    "a number longer than Python reads": (b"\x80\x02I" + b"9" * 10_000 + b"\n.", "damaged"),
    "lists in lists": (nested(b"](", b"e"), "a dictionary of named tensors, got a list"),
    "dictionaries in dictionaries": (nested(b"}(K\x01", b"u"), "a dictionary of named tensors, got a dict"),
    "records in records": (
        b"\x80\x02ccollections\nOrderedDict\nq\x00N" + (b"\x85q\x01h\x00h\x01R") * 1000 + b".",
        "a dictionary of named tensors",
    ),
    "itself": (b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.", "a dictionary of named tensors, got a dict"),
    "a state for a name": (b"\x80\x02cnumpy\ndtype\n}b.", "damaged"),
    "a state for the encoder": (b"\x80\x02c_codecs\nencode\nN}X\x01\x00\x00\x00aNs\x86b.", "damaged"),
    "a call of what is no function": (b"\x80\x02NN\x85R.", "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.timeout(60)
def test_programs_that_harm_without_a_call(tmp_path, name):
    program, complaint = HOSTILE[name]
    path = tmp_path / "bad.pkl"
    path.write_bytes(program)
    with pytest.raises(ValueError, match=rf"bad\.pkl: expected [^\n]*{complaint}"):
        read_tensors(path)
    torch.save({"a": torch.zeros(2)}, tmp_path / "whole.pth")
    with zipfile.ZipFile(tmp_path / "whole.pth") as old, zipfile.ZipFile(tmp_path / "bad.pth", "w") as new:
        for entry in old.infolist():
            new.writestr(entry, program if entry.filename.endswith("data.pkl") else old.read(entry))
    with pytest.raises(ValueError, match=rf"bad\.pth: expected [^\n]*{complaint}"):
        read_tensors(tmp_path / "bad.pth")


def test_nothing_is_made_but_records():
    content = {"a": np.float64(1), "b": Calls(codecs.encode, "x", "latin1"), "c": [Calls(os.system, "true")]}
    found = unpickle(io.BytesIO(pickle.dumps(content, 2)))
    assert found.refused == f"{os.system.__module__}.system"
    for value in (found.content["a"], found.content["b"], found.content["c"][0]):
        assert isinstance(value, Record)
    assert found.content["c"][0].arguments == ("true",)
    assert not any(isinstance(value, (np.generic, np.dtype)) for value in found.content["a"].arguments)
