import multiprocessing
import os
import pickle
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from unicodedata import normalize

import pytest

from data_files import write
from expedit.data.storage import Tree

FILES = {"a/one.txt": "1", "a/deep/two.txt": "22", "b/three.txt": "333", "top.txt": "x\n\n y \n"}


@pytest.fixture(params=["folder", "pack.zip", "pack.tar", "folder holding zip", "folder holding tar"])
def tree(request, tmp_path):
    if " holding " in request.param:
        write(tmp_path / f"pack.{request.param[-3:]}", FILES)
        return Tree(tmp_path)
    return Tree(write(tmp_path / request.param, FILES))


def test_every_kind_of_storage_lists_and_reads_the_same(tree):
    assert tree.files("a") == ["a/deep/two.txt", "a/one.txt"]
    assert tree.files("nowhere") == []
    assert (tree.has("a/deep"), tree.has("a/one.txt"), tree.has("de")) == (True, False, False)
    assert (tree.exists("a/one.txt"), tree.exists("a"), tree.exists("a/one")) == (True, False, False)
    assert [*tree.folders()] == ["a", "b"]
    assert tree.read("a/deep/two.txt") == b"22"
    assert tree.lines("top.txt") == ["x", "y"]


def test_a_tree_survives_pickling_after_use(tree):
    tree.read("a/one.txt")
    assert pickle.loads(pickle.dumps(tree)).read("b/three.txt") == b"333"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="lists open files as Linux does")
def test_no_file_stays_open(tree):
    assert tree.read("a/one.txt") == b"1"
    opened = (os.path.realpath(file) for file in Path("/proc/self/fd").iterdir())
    assert not [file for file in opened if file.startswith(str(tree.root))]


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "a\\b", "./a"])
def test_names_cannot_leave_the_tree(tree, name):
    for action in (tree.read, tree.exists, tree.has, tree.files):
        with pytest.raises(ValueError, match="relative path inside"):
            action(name)


def test_a_missing_file_is_named_with_its_full_path(tree):
    with pytest.raises(FileNotFoundError, match=r"a/none\.txt"):
        tree.read("a/none.txt")


def test_size_limit(tree):
    with pytest.raises(ValueError, match=r"three\.txt: expected at most 2 bytes, got 3"):
        tree.read("b/three.txt", limit=2)


@pytest.mark.parametrize("name", ["bad.zip", "bad.tar"])
def test_members_that_would_leave_the_archive_do_not_exist(tmp_path, name):
    evil = {"../out.txt": "o", "/abs.txt": "a", "c:/win.txt": "w", "in/../../out.txt": "i", "__MACOSX/x.txt": "m"}
    tree = Tree(write(tmp_path / name, {**evil, "in/.hidden": "h", "in/good.txt": "g"}))
    assert tree.files("") == ["in/good.txt"]


def test_a_folder_goes_before_an_archive_that_holds_it_too(tmp_path):
    write(tmp_path / "pack.zip", {"a/x.txt": "packed", "b/y.txt": "packed"})
    write(tmp_path, {"a/x.txt": "loose"})
    tree = Tree(tmp_path)
    assert (tree.read("a/x.txt"), tree.read("b/y.txt")) == (b"loose", b"packed")


@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_only_the_archives_that_are_needed_are_opened(tmp_path, suffix):
    write(tmp_path, {"a/x.txt": "x"})
    write(tmp_path / "b.zip", {"b/y.txt": "y"})
    (tmp_path / f"train.{suffix}").write_bytes(b"an interrupted download" * 100)
    tree = Tree(tmp_path)
    assert (tree.read("a/x.txt"), tree.files("a"), tree.remarks) == (b"x", ["a/x.txt"], ())
    assert (tree.read("b/y.txt"), tree.remarks) == (b"y", ())
    assert not tree.exists("c.txt")
    [remark] = tree.remarks
    assert f"train.{suffix}: expected" in remark
    with pytest.raises(FileNotFoundError, match=rf"c\.txt \(.*train\.{suffix}: expected .*\): no such file"):
        tree.read("c.txt")


@pytest.mark.parametrize("name", ["bad.zip", "bad.tar"])
def test_members_that_are_left_out_are_counted(tmp_path, name):
    tree = Tree(
        write(tmp_path / name, {"../out.txt": "o", "/abs.txt": "a", "__MACOSX/x": "m", ".DS_Store": "d", "g": "g"})
    )
    assert tree.exists("g")
    assert tree.remarks == (
        f"{tmp_path / name}: 2 members are left out, links or names that leave the archive, such as '../out.txt'",
    )


def test_links_in_an_archive_are_left_out_and_counted(tmp_path):
    with tarfile.open(tmp_path / "pack.tar", "w") as archive:
        link = tarfile.TarInfo("passwd")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    tree = Tree(tmp_path / "pack.tar")
    assert not tree.exists("passwd")
    assert "1 members are left out, links" in tree.remarks[0]


COMPOSED, APART = (normalize(form, "grün/é 1.txt") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("place", ["folder", "pack.zip", "pack.tar"])
@pytest.mark.parametrize(("written", "asked"), [(COMPOSED, APART), (APART, COMPOSED)])
def test_composed_and_decomposed_names_are_the_same(tmp_path, place, written, asked):
    tree = Tree(write(tmp_path / place, {written: "x"}))
    assert tree.exists(asked)
    assert tree.has(asked.split("/")[0])
    assert tree.read(asked) == b"x"
    assert [tree.read(name) for name in tree.files(asked.split("/")[0])] == [b"x"]
    assert not tree.exists(asked + "x")


def test_names_of_old_zip_programs_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as archive:
        archive.writestr("grün/x.txt", "mac")
        archive.writestr("dos/y.txt", "dos")
    content = (tmp_path / "pack.zip").read_bytes()
    content = content.replace(b"dos/y", b"dos\\y")
    for at in (content.find(b"PK\3\4") + 6, content.find(b"PK\1\2") + 8):
        content = content[: at + 1] + bytes([content[at + 1] & ~8]) + content[at + 2 :]  # "not said to be UTF-8"
    (tmp_path / "pack.zip").write_bytes(content)
    tree = Tree(tmp_path / "pack.zip")
    assert (tree.read("grün/x.txt"), tree.read("dos/y.txt")) == (b"mac", b"dos")


@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_a_damaged_archive_is_named(tmp_path, suffix):
    path = tmp_path / f"broken.{suffix}"
    path.write_bytes(b"this is no archive" * 100)
    with pytest.raises(ValueError, match=rf"broken\.{suffix}: expected"):
        Tree(path).exists("a")


def test_a_damaged_member_is_named(tmp_path):
    path = write(tmp_path / "pack.zip", {"a.txt": os.urandom(500)})
    data = bytearray(path.read_bytes())
    data[100] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"pack\.zip/a\.txt: cannot be read"):
        Tree(path).read("a.txt")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("extract_version", 255, r"pack\.zip: expected a zip archive, .*version 25\.5"),
        ("flag_bits", 1, r"pack\.zip/a\.txt: cannot be read .*encrypted"),
        ("compress_type", zipfile.ZIP_BZIP2, r"pack\.zip/a\.txt: expected a file packed by deflate .* type 12;"),
        ("compress_type", zipfile.ZIP_LZMA, r"pack\.zip/a\.txt: expected a file packed by deflate .* type 14;"),
        ("compress_type", 9, r"pack\.zip/a\.txt: expected a file packed by deflate .* type 9;"),
        ("header_offset", 1 << 63, r"pack\.zip/a\.txt: cannot be read"),
    ],
)
def test_what_cannot_be_unpacked_is_named(tmp_path, field, value, message):
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as archive:
        archive.writestr("a.txt", "1" * 500)
        setattr(archive.getinfo("a.txt"), field, value)  # written when the archive is closed
    with pytest.raises(ValueError, match=message):
        Tree(tmp_path / "pack.zip").read("a.txt")


def test_no_more_is_unpacked_than_a_member_states(tmp_path):
    with zipfile.ZipFile(tmp_path / "pack.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", bytes(20_000_000))
        info = archive.getinfo("a.txt")
        info.file_size, info.CRC = 1000, zlib.crc32(bytes(1000))
    tree = Tree(tmp_path)
    assert [*tree.archives]
    tracemalloc.start()
    content = tree.read("a.txt")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert content == bytes(1000)
    assert peak < 1_000_000


def test_a_zip_without_its_beginning_or_with_damaged_names_is_named(tmp_path):
    path = write(tmp_path / "pack.zip", {"é.txt": b"1" * 500})
    whole = path.read_bytes()
    path.write_bytes(whole[20:])
    with pytest.raises(ValueError, match=r"pack\.zip/é\.txt: cannot be read"):
        Tree(path).read("é.txt")
    path.write_bytes(whole.replace("é".encode(), b"\xff\xff"))
    with pytest.raises(ValueError, match=r"pack\.zip: expected a zip archive"):
        Tree(path).read("é.txt")


def test_a_shortened_tar_is_refused(tmp_path):
    path = write(tmp_path / "pack.tar", {"a.txt": b"1" * 5000})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"pack\.tar"):
        Tree(path).read("a.txt")


def test_root_must_be_there_and_readable(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none: no such folder"):
        Tree(tmp_path / "none")
    (tmp_path / "x.rar").write_text("x")
    with pytest.raises(ValueError, match=r"expected a folder, a \.zip or a \.tar"):
        Tree(tmp_path / "x.rar")


@pytest.mark.parametrize(
    ("text", "problem"), [("", "empty list"), ("a\nb\na\n", "'a' is listed twice"), (b"\xff", "text")]
)
def test_list_files_are_checked(tmp_path, text, problem):
    with pytest.raises(ValueError, match=rf"l\.txt: .*{problem}"):
        Tree(write(tmp_path, {"l.txt": text})).lines("l.txt")


def test_links_to_folders_are_followed_and_circles_end(tmp_path):
    write(tmp_path / "elsewhere", {"x.txt": "x"})
    write(tmp_path / "root", {"a/y.txt": "y"})
    (tmp_path / "root/a/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/a/circle").symlink_to(tmp_path / "root")
    assert {"a/link/x.txt", "a/y.txt"} <= set(Tree(tmp_path / "root").files("a"))


def _read_all(tree, names, queue):
    queue.put([tree.read(name) for name in names])


def test_forked_processes_read_one_zip_at_the_same_time(tmp_path):
    contents = {f"{i}.bin": os.urandom(200_000) for i in range(20)}
    tree = Tree(write(tmp_path / "pack.zip", contents))
    tree.read("0.bin")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_read_all, args=(tree, list(contents), queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    answers = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert answers == [list(contents.values())] * 2


def test_nothing_is_written(tmp_path):
    tree = Tree(write(tmp_path / "pack.zip", FILES))
    tree.read("a/one.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["pack.zip"]
    assert zipfile.is_zipfile(tmp_path / "pack.zip")
