"""What is not on every system: the package works without it. The wheel is tried on all three by the workflow."""

import subprocess
import sys
from pathlib import Path

import expedit

WITHOUT = """
import importlib, os, pkgutil, sys
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

ABSENT = {"resource", "fcntl", "termios", "tty", "pty", "pwd", "grp", "curses"}
SOURCE = Path(find_spec("expedit").origin).parent
for name in {"fork", "forkpty"} & vars(os).keys():
    delattr(os, name)


class Nowhere:
    def find_spec(self, name, path=None, target=None):
        frame = sys._getframe(1)
        while frame.f_code.co_filename.startswith("<frozen"):
            frame = frame.f_back
        if name in ABSENT and SOURCE in Path(frame.f_code.co_filename).parents:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Nowhere())
for name in ABSENT:
    sys.modules.pop(name, None)

import expedit
from expedit.cli import main

for module in pkgutil.walk_packages(expedit.__path__, "expedit."):
    if module.name not in ("expedit.__main__", "expedit.cli.explore_page"):
        importlib.import_module(module.name)
folder = Path(sys.argv[1])
Image.new("RGB", (64, 48)).save(folder / "photo.png")
arguments = [str(folder / "photo.png"), "-m", "pool(alpha=3, grid=0.5)", "-o", str(folder / "out")]
assert main(["predict", "segmenter-mini", *arguments]) == 0
"""


def test_the_package_works_without_what_only_posix_has(tmp_path):
    command = [sys.executable, "-c", WITHOUT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/photo.json").is_file()


def test_no_process_is_forked_and_no_path_is_put_together_by_hand():
    for path in Path(expedit.__file__).parent.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert "os.fork" not in source, path
        assert 'get_context("fork")' not in source, path
        assert "os.path.join" not in source, path
