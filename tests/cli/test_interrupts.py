"""Signals in the middle of every long verb, and garbage that is collected at the worst moment."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook

from expedit.checkpoints import safetensors_format
from expedit.cli import main
from expedit.cli.interrupts import PATIENCE
from expedit.models import Segmenter
from small_video import clip, small_model, write_clip

SPEC = "pool(alpha=1, grid=(2, 2))"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A small model, pictures with labels, a small video model and a film."""
    root = tmp_path_factory.mktemp("place")
    torch.manual_seed(0)
    model = Segmenter(classes=12, image_size=(32, 32), patch=8, width=32, depth=2, heads=2, head_layers=1)
    safetensors_format.save(model, root / "m.safetensors")
    for kind in ("images", "labels"):
        (root / "data" / kind / "val").mkdir(parents=True)
    (root / "data" / "classes.txt").write_text("\n".join(f"class {i}" for i in range(12)))
    for i in range(12):
        Image.fromarray(np.full((32, 32, 3), 20 * i, np.uint8)).save(root / f"data/images/val/{i:02}.png")
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(root / f"data/labels/val/{i:02}.png")
    safetensors_format.save(small_model(), root / "v.safetensors")
    write_clip(root / "film.mp4", clip(frames=30))
    return root


def verbs(place, out):
    """Command lines of what runs long; a module, and after how many of its runs a verb is in the middle of its work."""
    model, data = place / "m.safetensors", place / "data"
    toy = ["compare", "--weights", model, "-m", SPEC, "--examples", "0", "--rounds", "1", "-o", out, "--resume"]
    film = ["predict", place / "v.safetensors", place / "film.mp4", "-o", out, "--window", "4"]
    return {
        "evaluate": (["evaluate", model, f"folder:{data}", "--resume", out / "state"], "Segmenter", 5),
        "compare": (toy, "Segmenter", 40),  # it has counted and timed by then
        "predict": (["predict", model, data / "images/val", "-o", out], "Segmenter", 5),
        "video": (film, "SwinModel", 5),
        "window": (film, "Mask2FormerMLPPredictionHead", 2),
        "benchmark": (["benchmark", model, "--rounds", "100"], "Segmenter", 15),
    }


LONG = ("evaluate", "compare", "predict", "video", "window", "benchmark")


def run_until(place, out, verb, event):
    """``main`` of that verb, with ``event()`` in the middle of it."""
    argv, network, run = verbs(place, out)[verb]
    runs = 0

    def watch(module, _):
        nonlocal runs
        runs += type(module).__name__ == network
        if runs == run and type(module).__name__ == network:
            event()

    hook = register_module_forward_pre_hook(watch)
    try:
        return main([str(word) for word in argv])
    finally:
        hook.remove()
        assert runs >= run, f"expected {run} runs of {network}, got {runs}"


@pytest.mark.parametrize("verb", LONG)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_every_verb_and_keeps_what_is_finished(place, tmp_path, capsys, verb, number, status):
    handlers, running = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)], threading.enumerate()
    sent = []

    def send():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), number)

    assert run_until(place, tmp_path, verb, send) == status
    assert time.perf_counter() - sent[0] < 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.count("interrupted") == 1
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert threading.enumerate() == running
    kept = list(tmp_path.glob("state/*.jsonl"))
    if verb in ("evaluate", "compare"):
        assert [len(path.read_text().splitlines()) > 1 for path in kept] == [True]
    if verb == "predict":
        assert len(list(tmp_path.glob("*.json"))) == 4
    assert not list(tmp_path.rglob("*partial*"))


class Failed(BaseException):
    """What no verb takes for one bad image."""


@pytest.mark.parametrize("verb", LONG)
def test_what_fails_leaves_no_thread_to_the_garbage_collector(place, tmp_path, verb):
    """Collection inside the lock that a starting thread holds hangs for ever where it has to join one."""
    running, kept = threading.enumerate(), []

    def fail():
        raise Failed("the network failed")

    gc.collect()
    gc.disable()
    try:
        try:
            run_until(place, tmp_path, verb, fail)
        except Failed as error:
            kept.append(error)
            kept.append(kept)  # a cycle, as notebooks and test runners make them: its frames live until collected
        assert kept
        assert threading.enumerate() == running
        kept = None
        collected = threading.Thread(target=collect_inside_the_lock, daemon=True)
        collected.start()
        collected.join(timeout=20)
        assert not collected.is_alive()
    finally:
        gc.enable()


def collect_inside_the_lock():
    """As if the collector ran while a thread starts: up to Python 3.12 that holds a lock which joining needs, too."""
    lock = getattr(threading, "_shutdown_locks_lock", threading.Lock())
    with lock:
        gc.collect()


STUCK = """
import hashlib, sys
from expedit import cli
from expedit.cli import doctor
doctor.run = lambda args: print("started", flush=True) or hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9) or 0
sys.exit(cli.main(["doctor"]))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_verb_inside_one_long_instruction_is_ended_too(number, status):
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"started\n"
        time.sleep(0.5)
        start = time.perf_counter()
        process.send_signal(number)
        error = process.communicate(timeout=20)[1].decode()
    assert process.returncode == status
    assert PATIENCE <= time.perf_counter() - start < 2.5
    assert error == "expedit doctor: interrupted\n"
