"""The documentation site, its notebooks and its pictures."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from expedit import METHODS
from expedit.backbones.hosts import HOSTS
from expedit.models.families import FAMILIES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted(DOCS.glob("notebooks/*.ipynb"))


@pytest.fixture(scope="module")
def generated():
    spec = importlib.util.spec_from_file_location("generated", DOCS / "generated.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_method_has_a_section_with_its_idea_and_its_cost(generated):
    text = generated.on_page_markdown((DOCS / "methods.md").read_text())
    sections = dict(re.findall(r"^## (\w+)\n+(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(METHODS)
    for name, section in sections.items():
        costs = "Multiply-adds that are left" in section or "Cost" in section
        assert costs, f"{name}: say in its module or in COSTS of docs/generated.py what it costs"
        assert f"`{name}(" in section


def test_every_family_and_every_host_is_listed(generated):
    text = generated.on_page_markdown((DOCS / "families.md").read_text())
    assert not generated.MARK.search(text)
    assert all(family.title in text for family in FAMILIES.values())
    assert all(f"`{name.rpartition('.')[2]}`" in text for name in HOSTS)


def test_every_page_is_in_the_navigation():
    def pages(entry):
        values = entry.values() if isinstance(entry, dict) else entry
        return [page for value in values for page in ([value] if isinstance(value, str) else pages(value))]

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_pictures_are_light_and_every_one_is_shown(generated):
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    shown = "".join(generated.on_page_markdown(page.read_text()) for page in pages)
    for picture in (DOCS / "pictures").iterdir():
        assert picture.stat().st_size <= 300_000
        assert picture.name in shown


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path):
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = [path.read_text() for path in tmp_path.rglob("*.html")]
    assert len(pages) > 10
    assert not [found for page in pages for found in re.findall(r'<(?:script|img|link)[^>]+="https?://[^"]+"', page)]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    client, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "notebooks are kept without outputs"
    client.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)


@pytest.mark.slow
def test_the_script_draws_the_pictures_that_are_shown(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/pictures.py"), "--output", str(tmp_path)]
    subprocess.run(command, check=True)
    kept = {path.name for path in (DOCS / "pictures").iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == kept
    for path in tmp_path.glob("*.png"):
        new, old = (np.asarray(Image.open(p).convert("RGB"), int) for p in (path, DOCS / "pictures" / path.name))
        assert new.shape == old.shape
        assert abs(new - old).mean() < 8, f"{path.name}: run python benchmarks/pictures.py"
