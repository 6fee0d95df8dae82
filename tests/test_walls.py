"""Who may import whom, read from the source."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "expedit"
FILES = sorted(SOURCE.rglob("*.py"))
STDLIB = sys.stdlib_module_names
HEAVY = {"cv2", "matplotlib", "transformers", "hotcoco", "jinja2", "scipy", "onnxruntime", "openvino", "onnx"}
THIRD_PARTY_BACKBONES = {"transformers", "timm"}


def name_of(path):
    """The module's name, such as ``expedit.core.cuts``; a package goes by its folder."""
    parts = ("expedit", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def imports(path, top_level_only=False):
    """Absolute names of everything ``path`` imports when it runs: modules as deep as they are named."""
    package = name_of(path).split(".")[: None if path.name == "__init__.py" else -1]
    tree = ast.parse(path.read_text())
    lazy = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    guarded = {
        id(n)
        for i in ast.walk(tree)
        if isinstance(i, ast.If) and "TYPE_CHECKING" in ast.unparse(i.test)
        for n in ast.walk(i)
    }
    for node in ast.walk(tree):
        if id(node) in guarded or (top_level_only and id(node) in lazy):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = (f"{base}.{alias.name}" for alias in node.names)
            yield from {name if name in MODULES else base for name in names}


def third_party(path, **kwargs):
    roots = {name.split(".")[0] for name in imports(path, **kwargs)}
    return {root for root in roots if root not in STDLIB and root not in ("expedit", "")}


def inside(path):
    """Our own sub-packages and modules that ``path`` imports, without the leading name."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("expedit.")}


def files_in(*folders):
    return [p for p in FILES if p.relative_to(SOURCE).parts[0] in folders]


def ids(path):
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("path", files_in("core"), ids=ids)
def test_core_imports_torch_only(path):
    assert third_party(path) <= {"torch"}
    assert inside(path) <= {"core"}


@pytest.mark.parametrize("path", files_in("operators"), ids=ids)
def test_an_operator_knows_torch_and_the_core(path):
    assert third_party(path) <= {"torch"}
    assert inside(path) <= {"core", "operators"}


@pytest.mark.parametrize("path", files_in("methods"), ids=ids)
def test_a_method_knows_torch_the_core_and_the_operators(path):
    assert third_party(path) <= {"torch"}
    assert inside(path) <= {"core", "operators", "methods"}


@pytest.mark.parametrize("path", files_in("backbones"), ids=ids)
def test_a_backbone_knows_the_core_and_at_most_one_library(path):
    assert third_party(path) <= {"torch"} | THIRD_PARTY_BACKBONES
    assert len(third_party(path) & THIRD_PARTY_BACKBONES) <= 1
    assert inside(path) <= {"core", "operators", "backbones"}


@pytest.mark.parametrize("path", files_in("metrics", "data"), ids=ids)
def test_metrics_and_data_know_neither_models_nor_methods(path):
    assert inside(path) <= {"metrics", "data"}


@pytest.mark.parametrize("path", files_in("models"), ids=ids)
def test_models_know_no_method(path):
    assert inside(path) <= {"core", "models", "data"}


@pytest.mark.parametrize("path", files_in("checkpoints"), ids=ids)
def test_checkpoints_know_models_and_no_method(path):
    assert inside(path) <= {"checkpoints", "core", "data", "models"}


def with_packages(module):
    """``a.b.c``, ``a.b`` and ``a``: importing the first runs the others."""
    parts = module.split(".")
    return {".".join(parts[:depth]) for depth in range(1, len(parts) + 1)}


def needed_by(module):
    """Our modules that ``module`` imports, and the packages that run first because these lie in them."""
    named = set(imports(MODULES[module]))
    implied = {above for name in named for above in with_packages(name)} - with_packages(module)
    return (named | implied) & MODULES.keys()


def test_no_module_imports_itself_by_a_detour():
    """Lazy imports count, those under TYPE_CHECKING do not: nothing of them runs."""
    left = {module: needed_by(module) for module in MODULES}
    while free := [module for module, needed in left.items() if not needed & left.keys()]:
        for module in free:
            del left[module]
    while tops := [module for module in left if not any(module in needed for needed in left.values())]:
        for module in tops:  # they import a circle and are in none
            del left[module]
    assert not left, f"circles among {sorted(left)}"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_files_and_functions_keep_to_their_budgets(path):
    """CONTRIBUTING: 300 lines a file, 150 a method, 40 lines of code a function, its docstring not counted."""
    source, room = path.read_text(), path.relative_to(SOURCE).as_posix()
    assert len(source.splitlines()) <= (150 if room.startswith("methods/") else 300)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) is not None else 0
            assert node.end_lineno - node.lineno + 1 - docstring <= 40, node.name


@pytest.mark.parametrize("path", files_in("cli"), ids=ids)
def test_bars_are_made_in_one_place(path):
    """Rich's own status and progress leave a thread behind."""
    source = path.read_text()
    assert path.name == "progress.py" or not re.search(r"\.status\(|\bProgress\(", source)


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_heavy_libraries_are_imported_where_they_are_used(path):
    assert not third_party(path, top_level_only=True) & HEAVY
    if "cli" in path.parts and path.name != "progress.py":  # a class of Rich's; verbs import it as they would Rich
        assert not third_party(path, top_level_only=True) & {"torch", "numpy", "rich", "PIL"}
        assert "expedit.cli.progress" not in imports(path, top_level_only=True)


@pytest.mark.parametrize("path", [p for p in FILES if "cli" not in p.parts], ids=ids)
def test_only_the_command_line_prints_and_exits(path):
    calls = {ast.unparse(n.func) for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)}
    assert not calls & {"print", "exit", "sys.exit", "quit", "input"}


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_nothing_is_evaluated(path):
    tree = ast.parse(path.read_text())
    calls = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    assert not calls & {"eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load", "hasattr"}
    assert "weights_only=False" not in ast.unparse(tree)


def test_help_does_not_import_torch():
    code = (
        "import sys\nfrom expedit.cli import main, VERBS\n"
        "for argv in (['--help'], *([verb, '--help'] for verb in VERBS)):\n"
        "    try: main(argv)\n    except SystemExit as stop: assert stop.code == 0, argv\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
