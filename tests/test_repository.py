"""Versions that several files name."""

import re
from pathlib import Path

import yaml

import expedit

ROOT = Path(__file__).resolve().parents[1]


def text(name):
    return (ROOT / name).read_text()


def test_the_citation_is_of_this_version():
    assert yaml.safe_load(text("CITATION.cff"))["version"] == expedit.__version__


def test_hooks_run_the_pinned_linter():
    pins = set(re.findall(r"ruff==[\d.]+", text(".pre-commit-config.yaml")))
    assert pins == set(re.findall(r"^ruff==[\d.]+", text("constraints.txt"), re.MULTILINE))
    yaml.safe_load(text(".pre-commit-config.yaml"))


def test_the_workflow_tests_the_oldest_libraries_that_are_allowed():
    jobs = yaml.safe_load(text(".github/workflows/tests.yml"))["jobs"]
    matrix = jobs["libraries"]["strategy"]["matrix"]["include"]
    for library in ("torch", "transformers"):
        [oldest] = set(re.findall(rf'"{library}>=([\d.]+)', text("pyproject.toml")))
        tested = {entry[library] for entry in matrix}
        assert any(version.startswith(f"=={oldest}") for version in tested)
        assert any(version.startswith(">=") for version in tested)
