"""Tiny data sets on disk: written by tests from a dictionary of paths, as folders or as archives."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(height=6, width=8, seed=0):
    """A random RGB picture."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(path, content):
    """What a file of that name holds: arrays become images, lists and dictionaries JSON, strings text."""
    if isinstance(content, (bytes, str)):
        return content if isinstance(content, bytes) else content.encode()
    if isinstance(content, (dict, list)):
        return json.dumps(content).encode()
    image = content if isinstance(content, Image.Image) else Image.fromarray(np.asarray(content))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG" if path.endswith(".jpg") else "PNG")
    return buffer.getvalue()


def opened(path):
    """A picture file as it is, read and closed."""
    with Image.open(path) as image:
        image.load()
    return image


def write(root, files):
    """Write ``{path: content}`` below ``root``, a folder (made) or the name of a new .zip or .tar; returns ``root``."""
    contents = {path: encoded(path, content) for path, content in files.items()}
    root = Path(root)
    if root.suffix == ".zip":
        with zipfile.ZipFile(root, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, content in contents.items():
                archive.writestr(path, content)
    elif root.suffix == ".tar":
        with tarfile.open(root, "w") as archive:
            for path, content in contents.items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    else:
        root.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
    return root


LABEL = np.array([[0, 1, 2, 0], [2, 2, 255, 3]], dtype=np.uint8)
X, Y = picture(2, 4), picture(2, 4, seed=1)


def tree(images, labels, **more):
    """Files of two pairs in a folder of images and one of labels."""
    return {f"{images}/x.jpg": X, f"{images}/y.png": Y, f"{labels}/x.png": LABEL, f"{labels}/y.png": LABEL, **more}
