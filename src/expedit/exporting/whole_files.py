"""Several files of one program that appear together, after whoever wrote them has looked at them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def whole_files(path: Path) -> Iterator[Path]:
    """A place of the same name in a hidden neighbouring folder; all that is in there moves when the block ends well.

    Weights beside the file move before it, so a file that is there has them. OSError where it cannot be written.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".expedit-", suffix=".partial", dir=path.parent) as folder:
        partial = Path(folder, path.name)
        yield partial
        for written in sorted(partial.parent.iterdir(), key=lambda one: one == partial):
            written.chmod(0o644)
            written.replace(path.with_name(written.name))
