"""Images in object stores and on servers, by URL: s3://, gs://, hf://, https://, memory:// and whatever fsspec has."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from glob import has_magic
from itertools import takewhile
from typing import Any

from ..data.decode import IMAGE_ENDINGS, most_bytes
from ..data.listing import by_stem

CHAINED = {".zip": "zip://::", ".tar": "tar://::"}
"""How fsspec is asked to look into an archive that lies at a URL."""


def is_url(place: str) -> bool:
    """Whether it is read by fsspec."""
    return "://" in place


def list_remote(url: str) -> Iterator[tuple[str, str, str | None]]:
    """The images of a URL of an image, a folder, a pattern or an archive.

    Yields:
        URL of the image or of its archive, its path relative to ``url`` (empty if it is the image), and its name in
        the archive.

    Raises:
        ImportError: fsspec, or what it needs for this protocol, is missing.
        OSError: as fsspec raises it.
    """
    place = url if "::" in url else CHAINED.get(posixpath.splitext(url)[1].lower(), "") + url
    fs, root = open_remote(place)
    is_pattern, in_archive = has_magic(root), "::" in place
    base = "/".join(takewhile(lambda part: not has_magic(part), root.split("/"))) if is_pattern else root.rstrip("/")
    names = fs.glob(root) if is_pattern else fs.find(root)
    for name in sorted((name for name in names if name.lower().endswith(IMAGE_ENDINGS)), key=by_stem):
        inner = name.removeprefix(base).lstrip("/")
        yield (place, inner, name) if in_archive else (fs.unstrip_protocol(name), inner, None)


def read_remote(fs: Any, path: str, shown: str) -> bytes:
    """The bytes of a file; OSError as fsspec raises it, ValueError for one that is too large."""
    size = fs.info(path)["size"]
    if size is not None and size > most_bytes():
        raise ValueError(f"{shown}: expected at most {most_bytes()} bytes, got {size}; --max-pixels allows more")
    content: bytes = fs.cat_file(path)
    return content


def open_remote(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it; ImportError as for ``list_remote``."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise ImportError(f"{url}: URLs need fsspec: pip install 'expedit[remote]' ({error})") from None
    try:
        fs, path = url_to_fs(url)
    except ImportError as error:
        raise ImportError(f"{url}: this protocol needs a library of its own ({error})") from None
    return fs, str(path)
