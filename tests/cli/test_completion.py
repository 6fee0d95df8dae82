"""What a shell completes."""

import shutil
import subprocess

import pytest

from expedit import METHODS
from expedit.cli import VERBS, main
from expedit.methods import PRESETS

TRY = """
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _shtab_expedit; printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def completed(capsys, tmp_path):
    """What bash offers for words of which the last one is not finished."""
    if shutil.which("bash") is None:
        pytest.skip("no bash on this machine")
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out + TRY)
    (tmp_path / "photo.jpg").touch()

    def ask(*words):
        command = ["bash", script, "expedit", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True, timeout=20)
        assert not done.stderr
        return done.stdout.split()

    return ask


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("co",), {"compare", "convert", "completion"}),
        (("predict", "segmenter-m"), {"segmenter-mini"}),
        (("predict", "pho"), {"photo.jpg"}),
        (("predict", "MODEL", "pho"), {"photo.jpg"}),
        (("predict", "MODEL", "photo.jpg", "-m", "evi"), {"evit"}),
        (("compare", "toy"), {"toy"}),
        (("evaluate", "MODEL", "youtube"), {"youtubevis-2019:", "youtubevis-2021:"}),
        (("compare", "--macs"), {"--macs-only"}),
    ],
)
def test_names_and_files_are_completed(completed, words, offered):
    assert set(completed(*words)) == offered


def test_all_verbs_and_methods_are_offered(completed):
    assert set(VERBS) <= set(completed(""))
    assert set(completed("predict", "MODEL", "-m", "")) == {*METHODS, *PRESETS}


def test_a_script_for_zsh_is_printed(capsys):
    assert main(["completion", "zsh"]) == 0
    assert "#compdef expedit" in capsys.readouterr().out
