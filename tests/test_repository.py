"""Versions that several files name."""

import re
from pathlib import Path

import pytest
import yaml

import expedit
from expedit.cli import doctor

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
    matrix = jobs["libraries"]["strategy"]["matrix"]
    assert {f"Programming Language :: Python :: {python}" for python in matrix["python"]} == set(
        re.findall(r"Programming Language :: Python :: 3\.\d+", text("pyproject.toml"))
    )
    for library in ("torch", "transformers"):
        [oldest] = set(re.findall(rf'"{library}>=([\d.]+)', text("pyproject.toml")))
        tested = {entry[library] for entry in matrix["libraries"]}
        assert any(version.startswith(f"=={oldest}") for version in tested)
        assert any(version.startswith(">=") for version in tested)


def test_the_changelog_has_the_form_of_keep_a_changelog():
    heads = re.findall(r"^## (.*)$", text("CHANGELOG.md"), re.MULTILINE)
    assert heads[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", head) for head in heads[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text("CHANGELOG.md"), re.MULTILINE)) <= kinds


def test_issue_forms_ask_for_what_is_needed():
    forms = [yaml.safe_load(path.read_text()) for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("[a-z]*_*.yml")]
    assert len(forms) == 2
    for form in forms:
        assert {"name", "description", "body"} <= form.keys()
        assert all({"type", "attributes"} <= field.keys() for field in form["body"])
        assert any(field.get("validations", {}).get("required") for field in form["body"])


def names_of(requirements):
    return {re.match(r"[\w-]+", requirement)[0].lower() for requirement in requirements}


def test_doctor_looks_for_everything_that_users_install():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads(text("pyproject.toml"))["project"]
    assert names_of(project["dependencies"]) == {name.lower() for name in doctor.CORE}
    extras = {name: names_of(wanted) for name, wanted in project["optional-dependencies"].items()}
    assert extras.keys() - {"dev", "docs", "full"} == doctor.EXTRAS.keys()
    for name, (packages, _) in doctor.EXTRAS.items():
        assert set(packages) == extras[name]
