"""Output streams of every kind: closed, absent, full, of any encoding."""

import io
import subprocess
import sys

import pytest

from expedit import cli
from expedit.cli import console, main


def verb_that(act, monkeypatch):
    """Let ``expedit list`` do something else."""
    monkeypatch.setattr("expedit.cli.list.run", act)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "latin-1", "ascii", "cp437"])
def test_tables_are_printed_in_every_encoding(encoding, monkeypatch):
    stream, raw = None, io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    from expedit.cli.tables import _print_table

    def act(args):
        _print_table("a · b", ["Δ", "ours − theirs"], [["expedit(α=6)…", "1.0"], ["caf\udce9.png", "2.0"]])
        return 0

    verb_that(act, monkeypatch)
    assert main(["list"]) == 0
    text = raw.getvalue().decode(encoding)
    assert "ours" in text
    assert "2.0" in text
    assert len({len(line.rstrip()) for line in text.splitlines()[1:]}) == 1
    assert stream.errors == "strict"


def test_names_that_no_encoding_has_reach_standard_error(monkeypatch, capfd):
    def act(args):
        raise ValueError("caf\udce9.png: not an image")

    verb_that(act, monkeypatch)
    assert main(["list"]) == 2
    assert r"caf\udce9.png: not an image" in capfd.readouterr().err


@pytest.mark.parametrize("closed", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_streams_may_be_absent(closed, monkeypatch):
    for name in closed:
        monkeypatch.setattr(sys, name, None)
    done = []

    def act(args):
        console.output().print("x")
        console.notes().print("x")
        done.append(1)
        return 0

    verb_that(act, monkeypatch)
    assert main(["list"]) == 0
    assert done
    assert all(getattr(sys, name) is None for name in closed)


class Failing(io.StringIO):
    """A stream that fails once it is flushed."""

    def __init__(self, error):
        super().__init__()
        self.failure = error

    def flush(self):
        raise self.failure


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (BrokenPipeError(32, "Broken pipe"), 0, ""),
        (OSError(28, "No space left on device"), 2, "expedit list: standard output: No space left on device\n"),
    ],
)
def test_work_goes_on_when_its_output_cannot_be_written(error, status, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Failing(error))
    done = []

    def act(args):
        for text in "xy":
            sys.stdout.write(text)
            sys.stdout.flush()
        done.append(1)
        return 0

    verb_that(act, monkeypatch)
    assert main(["list"]) == status
    assert done
    assert capsys.readouterr().err == words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "out of memory; try a smaller batch or image"),
        (PermissionError(13, "Permission denied", "a.json"), "a.json: Permission denied"),
        (OSError(28, "No space left on device", b"caf\xe9"), r"caf\udce9: No space left on device"),
    ],
)
def test_what_the_machine_lacks_is_one_sentence(error, words, monkeypatch, capsys):
    def act(args):
        raise error

    verb_that(act, monkeypatch)
    assert main(["list"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("expedit list: ")
    assert words in printed
    assert printed.count("\n") == 1


def test_a_fault_of_ours_is_a_traceback(monkeypatch):
    def act(args):
        raise RuntimeError("a fault")

    verb_that(act, monkeypatch)
    with pytest.raises(RuntimeError, match="a fault"):
        main(["list"])


@pytest.mark.parametrize(
    "shell", ["list >&-", "list | head -n 1", "--help >&-", "--help >&- 2>&-", "--help 2>/dev/full"]
)
def test_real_streams_that_are_closed(shell):
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m expedit {shell}"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_was_written_on_the_command_line_is_known():
    given = cli._given("benchmark", ["tiny", "-m", "tome", "-m", "evit", "--batch", "1", "2", "--rounds", "7"])
    assert given == {"model", "method", "batch", "rounds"}


@pytest.mark.parametrize(("no_color", "terminal", "red"), [("", True, True), ("1", True, False), ("", False, False)])
def test_errors_are_red_on_a_terminal_that_wants_colours(no_color, terminal, red, monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)
    console.complain("list", "[bold] is no markup, and a line is as long as it is: " + 100 * "x")
    assert ("\x1b[1;31m" in stream.getvalue()) == red
    assert stream.getvalue().count("\n") == 1
    assert "[bold] is no markup" in stream.getvalue()
