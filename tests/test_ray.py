"""Ray Data: the same table as one process, also when an actor dies."""

import json
import os
import signal

import numpy as np
import pytest
from PIL import Image

from expedit.cli import main
from expedit.ray import Predict

pytest.importorskip("ray")  # and pyarrow with it
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # it warns of settings of its own


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for index in range(24):
        Image.fromarray(rng.integers(0, 256, (64, 80, 3), np.uint8)).save(tmp_path / "photos" / f"{index:02}.png")
    return tmp_path / "photos"


def test_a_batch_has_a_row_for_every_image(photos):
    """Bytes, pixels or paths; one broken image does not end the others."""
    path = photos / "00.png"
    predict = Predict("segmenter-mini", batch=2)
    broken = predict({"path": np.array([str(path), str(photos / "gone.png")])}).to_pylist()
    assert [row["error"] is None for row in broken] == [True, False]
    assert "no such image" in broken[1]["error"]
    [content] = predict({"bytes": np.array([path.read_bytes()], object)}).to_pylist()
    [pixels] = predict({"image": np.asarray(Image.open(path))[None]}).to_pylist()
    assert content["labels"] == pixels["labels"] == broken[0]["labels"]
    assert sum(one["pixels"] for one in pixels["segments"]) == 64 * 80


def table(folder):
    from pyarrow import parquet

    return parquet.read_table(folder / "parquet").sort_by("path").to_pylist()


@pytest.mark.slow
def test_actors_write_what_one_process_writes(photos, tmp_path, monkeypatch):
    (photos / "broken.png").write_bytes(b"x")
    words = ["predict", "segmenter-mini", str(photos), "--batch", "2", "--rows-per-shard", "5"]
    assert main([*words, "-o", str(tmp_path / "one"), "--write", "parquet"]) == 2
    assert main([*words, "-o", str(tmp_path / "ray"), "--ray", "--actors", "2"]) == 2
    assert table(tmp_path / "ray") == table(tmp_path / "one")
    lines = [json.loads(line)["image"] for line in (tmp_path / "ray" / "failed.jsonl").read_text().splitlines()]
    assert lines == [str(photos / "broken.png")]
    for path in list((tmp_path / "ray" / "parquet").iterdir())[:2]:
        path.unlink()
    (tmp_path / "ray" / "expedit-journal.jsonl").unlink()
    assert main([*words, "-o", str(tmp_path / "ray"), "--ray", "--actors", "2", "--resume"]) == 2
    assert table(tmp_path / "ray") == table(tmp_path / "one")


class Dying(Predict):
    """The first actor that has done one batch is killed in the middle of the next."""

    trace = ""

    def __call__(self, batch):
        if self.calls and not os.path.exists(self.trace):
            open(self.trace, "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        self.calls += 1
        return super().__call__(batch)

    def __init__(self, *args, trace, **settings):
        super().__init__(*args, **settings)
        self.calls, self.trace = 0, trace


@pytest.mark.slow
def test_an_actor_that_dies_loses_nothing(photos, tmp_path, monkeypatch):
    words = ["predict", "segmenter-mini", str(photos), "--rows-per-shard", "5"]
    assert main([*words, "-o", str(tmp_path / "one"), "--write", "parquet"]) == 0
    trace = str(tmp_path / "died")
    dying = type("Predict", (Dying,), {"__init__": lambda self, *a, **k: Dying.__init__(self, *a, trace=trace, **k)})
    monkeypatch.setattr("expedit.ray.Predict", dying)
    assert main([*words, "-o", str(tmp_path / "ray"), "--ray", "--actors", "2"]) == 0
    assert os.path.exists(trace)
    assert table(tmp_path / "ray") == table(tmp_path / "one")
