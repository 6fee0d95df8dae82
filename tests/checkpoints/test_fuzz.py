"""Files that are broken in every way there is: an error in one line, soon, and in little memory. Never anything else.

``EXPEDIT_FUZZ_SECONDS=600 pytest -m slow tests/checkpoints/test_fuzz.py`` goes on for so long.
"""

import io
import json
import os
import pickle
import pickletools
import random
import resource
import shutil
import struct
import time
import warnings
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import expedit
from expedit.checkpoints import safetensors_format
from expedit.checkpoints.pickles import TUPLES
from expedit.models import Segmenter

SECONDS = float(os.environ.get("EXPEDIT_FUZZ_SECONDS", "60"))
LONGEST = 20.0
"""Processor seconds for a file of half a megabyte; a whole one of 50 kB takes 0.01."""

MEMORY = 400 << 10
"""kB that the process may grow by, over all files together."""

VARIANT = """\
dataset_kwargs: {dataset: ade20k, normalization: vit}
inference_kwargs: {im_size: 32, window_size: 32, window_stride: 32}
net_kwargs: {n_heads: 1, image_size: !!python/tuple [32, 32]}
"""

NUMBERS = [0, 1, 2, 127, 128, 255, 256, 65535, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1]
WORDS = ["model", "state_dict", "module.", "storage", "0", "cpu", "encoder.pos_embed", "", "a" * 300, "\x1b[2J\n", "é"]
NAMES = [
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch FloatStorage",
    "torch BFloat16Storage",
    "torch Size",
    "numpy ndarray",
    "numpy dtype",
    "numpy._core.multiarray _reconstruct",
    "numpy._core.multiarray scalar",
    "numpy._core.numeric _frombuffer",
    "_codecs encode",
    "builtins bytearray",
    "builtins getattr",
    "os system",
    "expedit.models.segmenter Segmenter",
]


def small():
    torch.manual_seed(0)
    return Segmenter(classes=2, image_size=(16, 16), patch=8, width=4, depth=1, heads=1, head_layers=1).eval()


def bytes_of(write):
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def ours(folder):
    safetensors_format.save(small(), folder / "ours")
    return (folder / "ours").read_bytes()


def bare(folder):
    save_file(small().state_dict(), folder / "bare")
    return (folder / "bare").read_bytes()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Whole files by kind."""
    folder, state = tmp_path_factory.mktemp("corpus"), small().state_dict()
    beside = {"meta": {"CLASSES": ("sky", "sea"), "PALETTE": [[1, 2, 3], [4, 5, 6]]}, "epoch": 3}
    arrays = {name: value.numpy() for name, value in state.items()}
    return {
        "archive": bytes_of(lambda file: torch.save({"state_dict": state, **beside}, file)),
        "stream": bytes_of(lambda file: torch.save({"model": state}, file, _use_new_zipfile_serialization=False)),
        **{f"pickle {n}": pickle.dumps({"model": arrays, **beside}, protocol=n) for n in (0, 2, 4, 5)},
        "ours": ours(folder),
        "bare": bare(folder),
    }


def number(chance):
    return max(0, chance.choice(NUMBERS) + chance.randint(-1, 1))


def broken_bytes(chance, data):
    """Bits flipped, bytes cut out, doubled, exchanged, or numbers written over them."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 30))):
        at, length = chance.randrange(max(len(data), 1)), chance.choice((1, 2, 4, 8, 100, 3000))
        kind = chance.randrange(6)
        if kind == 0 and data:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = data[at : at + length]
        elif kind == 3:
            other = chance.randrange(max(len(data), 1))
            data[at : at + length], data[other : other + length] = data[other : other + length], data[at : at + length]
        elif kind == 4:
            data[at : at + 8] = struct.pack(chance.choice("<>") + "Q", min(number(chance), (1 << 64) - 1))
        else:
            data = data[:at]
    return bytes(data)


def opcode(chance):
    """One step of a pickle with an argument of its kind."""
    code, word = chance.choice(pickletools.opcodes), chance.choice(WORDS).encode()
    kind, value = code.arg and code.arg.name, number(chance)
    widths = {"uint1": "<B", "uint2": "<H", "int4": "<i", "uint4": "<I", "uint8": "<Q", "float8": ">d"}
    if kind in widths:
        width = struct.calcsize(widths[kind])
        argument = value.to_bytes(9, "little")[:width]
    elif kind is None:
        argument = b""
    elif "pair" in kind:
        argument = chance.choice(NAMES).replace(" ", "\n").encode() + b"\n"
    elif "nl" in kind:
        argument = chance.choice((str(value).encode(), b"'" + word.replace(b"\n", b"") + b"'")) + b"\n"
    else:  # a length and so many bytes, or not quite so many
        width = {"1": 1, "4": 4, "8": 8}[kind[-1]]
        argument = chance.choice((len(word), value)).to_bytes(9, "little")[:width] + word
    return code.code.encode("latin1") + argument


def broken_program(chance, program):
    """Steps of a pickle left out, doubled, exchanged, or others among them; tuples in tuples."""
    try:
        steps = list(pickletools.genops(program))
    except ValueError:  # broken already
        return broken_bytes(chance, program)
    ends = [place for _, _, place in steps[1:]] + [steps[-1][2] + 1]
    parts = [program[place:end] for (_, _, place), end in zip(steps, ends, strict=True)]
    for _ in range(chance.choice((1, 2, 3, 10))):
        at = chance.randrange(len(parts))
        kind = chance.randrange(6)
        if kind == 0:
            del parts[at]
        elif kind == 1:
            parts.insert(at, parts[chance.randrange(len(parts))])
        elif kind == 2:
            other = chance.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        elif kind == 3:
            parts[at:at] = [opcode(chance) for _ in range(chance.choice((1, 2, 5)))]
        elif kind == 4:
            parts[at] = opcode(chance)
        else:  # most of all after a text, which may be a key
            texts = [place for place, part in enumerate(parts, 1) if part[:1] in (b"X", b"\x8c", b"V")]
            at = chance.choice(texts) if texts and chance.random() < 0.7 else at
            again = chance.choice((b"\x85", b"2\x86", b"](", b"}", b"0N", b"N"))
            parts[at:at] = [again] * chance.choice((1, 50, 200_000))
        parts = parts or [b"."]
    return b"".join(parts)


def broken_archive(chance, data):
    """Members renamed, left out, doubled, exchanged; another program; all with the right checksums."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    for _ in range(chance.choice((1, 1, 3))):
        at, other = chance.randrange(len(members)), chance.randrange(len(members))
        name, content = members[at]
        kind = chance.randrange(5)
        if kind == 0:
            members[at] = chance.choice((name[:-1], "x/" + name, name.upper(), "../" + name)), content
        elif kind == 1 and len(members) > 1:
            del members[at]
        elif kind == 2:
            members[at], members[other] = (name, members[other][1]), (members[other][0], content)
        elif kind == 3:
            members[at] = name, broken_bytes(chance, content)
        else:
            members = [(n, broken_program(chance, c) if n.endswith("data.pkl") else c) for n, c in members]
    stream = io.BytesIO()
    with zipfile.ZipFile(
        stream, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    ) as new:
        for name, content in members:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about names that are there already
                new.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


VALUES = [
    None,
    True,
    0,
    -1,
    1 << 40,
    1 << 70,
    1.5,
    float("nan"),
    "",
    "F32",
    "bicubic",
    [],
    {},
    [1, 2],
    [0, 1 << 60],
    [[[]]],
]


def broken_json(chance, value):
    """``value`` with something else in one place, or with something left out."""
    if isinstance(value, (dict, list)) and value and chance.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = chance.choice(list(keys))
        copy = value.copy()
        if chance.random() < 0.2:
            del copy[key]
        else:
            copy[key] = broken_json(chance, value[key])
        return copy
    if isinstance(value, str) and value[:1] in ("{", "["):
        return chance.choice((json.dumps(broken_json(chance, json.loads(value))), value[:-1], "[" * 100_000))
    return chance.choice(VALUES)


def broken_safetensors(chance, data):
    """Another header."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if chance.random() < 0.8 and "__metadata__" in header:
        header["__metadata__"] = broken_json(chance, header["__metadata__"])
    else:
        header = broken_json(chance, header)
    header = json.dumps(header).encode()
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def broken(chance, kind, whole):
    """A broken file of one kind."""
    if chance.random() < 0.4:
        return broken_bytes(chance, whole)
    if kind == "archive":
        return broken_archive(chance, whole)
    if kind in ("ours", "bare"):
        return broken_safetensors(chance, whole)
    if kind == "stream":
        stream = io.BytesIO(whole)
        ends = [max(stream.tell() for _ in pickletools.genops(stream)) for _ in range(5)]
        at = chance.randrange(5)
        first, last = ends[at - 1] if at else 0, ends[at]
        return whole[:first] + broken_program(chance, whole[first:last]) + whole[last:]
    return broken_program(chance, whole)


def check(folder, data, variant=None):
    """Loads the file, or says in one line what is wrong with it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / "checkpoint.pth"
    path.write_bytes(data)
    if variant is not None:
        (folder / "variant.yml").write_bytes(variant)
    start = time.process_time()
    try:
        expedit.load(folder if variant is not None else path)
    except (ValueError, OSError) as error:
        message = str(error)
        assert message.startswith(str(folder)), message
        assert message.isprintable(), message
    assert time.process_time() - start < LONGEST


def grown(before):
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def attack(folder, corpus, examples):
    """So many broken files."""

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(sorted(corpus)), st.integers(0, 1 << 60))
    def one(kind, seed):
        chance = random.Random(seed)
        check(folder, broken(chance, kind, corpus[kind]))
        if chance.random() < 0.1:
            check(folder, corpus["archive"], broken_bytes(chance, VARIANT.encode()))

    one()


def test_whole_files_are_read(tmp_path, corpus):
    for data in corpus.values():
        (tmp_path / "whole").write_bytes(data)
        expedit.load(tmp_path / "whole")
    assert TUPLES[0] == pickletools.code2op["t"].name


def test_broken_files_are_refused_in_one_line(tmp_path, corpus):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    attack(tmp_path / "f", corpus, 200)
    assert grown(before) < MEMORY


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_broken_files_for_a_long_time(tmp_path, corpus):
    before, end = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic() + SECONDS
    while time.monotonic() < end:
        attack(tmp_path / "f", corpus, 500)
    assert grown(before) < MEMORY
