"""What ``import expedit`` offers, in a process of its own: here everything has been imported already."""

import subprocess
import sys

import expedit


def test_names_are_listed_and_found_after_a_plain_import():
    code = (
        "import sys, expedit\n"
        "names = dir(expedit)\n"
        "assert {'accelerate', 'load', 'predict', 'Prediction', 'models'} <= set(names), names\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "for name in names: assert getattr(expedit, name) is not None, name\n"
        "expedit.models.Segmenter, expedit.core.Grid"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_module_hides_a_function():
    """Importing ``expedit.predict`` would put a module where the function was."""
    assert all(f"{expedit.__name__}.{name}" not in sys.modules for name in expedit.__all__)
