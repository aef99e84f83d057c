"""Zip and tar of DICOM, honest and hostile."""

import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import sources
from tf_dicom_ce.intake.index import scan
from tf_dicom_ce.intake.query import Query
from tf_dicom_ce.tags.schema import TagSchema


@pytest.fixture
def files(write, ramp, tmp_path):
    for name in ("a/1", "a/2", "b/1"):
        write(f"in/{name}", ramp)
    return tmp_path / "in"


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "xztar"])
def test_every_kind_gives_the_files(files, kind, tmp_path):
    path = shutil.make_archive(str(tmp_path / "export"), kind, files)
    folder = sources.open_source(path, Query())
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*/*")}
    assert found == {p.relative_to(files).as_posix(): p.read_bytes() for p in files.rglob("*/*")}
    assert folder.stat().st_mode & 0o77 == folder.parent.stat().st_mode & 0o77 == 0
    assert len(scan(folder, TagSchema.load("ultrasound"), progress=False).rows) == 3
    before = folder.stat().st_mtime_ns
    assert sources.open_source(path, Query()) == folder
    assert folder.stat().st_mtime_ns == before


def test_a_changed_archive_is_unpacked_anew(files, tmp_path):
    path = shutil.make_archive(str(tmp_path / "export"), "zip", files)
    first = sources.open_source(path, Query())
    (files / "a" / "3").write_bytes(b"3")
    shutil.make_archive(str(tmp_path / "export"), "zip", files)
    second = sources.open_source(path, Query())
    assert first != second
    assert (second / "a" / "3").read_bytes() == b"3"


def test_an_archive_is_known_by_its_content(write, ramp, tmp_path):
    """Moved, it is the same; another one in its place, of equal size and time, is not."""
    packed = []
    for k in range(2):
        write(f"in{k}/1", ramp + k, SOPInstanceUID="1.2", StudyInstanceUID="1.3")
        path = shutil.make_archive(str(tmp_path / f"{k}"), "tar", tmp_path / f"in{k}")
        packed.append(Path(path))
        os.utime(path, ns=(10**18, 10**18))
    assert packed[0].stat().st_size == packed[1].stat().st_size
    first = sources.open_source(str(packed[0]), Query())
    elsewhere = shutil.copyfile(packed[0], tmp_path / "elsewhere.tar")
    assert sources.open_source(str(elsewhere), Query()) == first
    packed[1].replace(packed[0])
    second = sources.open_source(str(packed[0]), Query())
    assert second != first
    assert (second / "1").read_bytes() == (tmp_path / "in1" / "1").read_bytes()


def hostile_tar(path):
    with tarfile.open(path, "w") as file:

        def add(name, content=b"x", **attributes):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in attributes.items():
                setattr(info, key, value)
            file.addfile(info, io.BytesIO(content))

        add("../../outside")
        add("/absolute")
        add("twice", b"1")
        add("twice", b"2")
        add("twice/below", b"3")
        add("n" * 300, b"4")
        add("link", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add("hard", type=tarfile.LNKTYPE, linkname="twice")
        add("fifo", type=tarfile.FIFOTYPE)


def test_nothing_leaves_the_folder(tmp_path):
    hostile_tar(tmp_path / "a.tar")
    folder = sources.unpack(tmp_path / "a.tar", tmp_path / "unpacked")
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*")}
    assert found == {
        "outside": b"x",
        "absolute": b"x",
        "twice": b"1",
        "member-3": b"2",
        "member-4": b"3",
        "member-5": b"4",
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar", "unpacked"]
    assert list((tmp_path / "unpacked").iterdir()) == [folder]


def test_links_in_a_zip_are_left_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
        file.writestr("folder/", "")
        file.writestr("plain", b"1")
    folder = sources.unpack(tmp_path / "a.zip", tmp_path / "unpacked")
    assert [p.name for p in folder.rglob("*")] == ["plain"]


def test_a_bomb_fills_no_disk(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", np.zeros(50_000_000, np.uint8).tobytes())
    assert (tmp_path / "a.zip").stat().st_size < 100_000
    monkeypatch.setattr(sources, "_SPARE", shutil.disk_usage(tmp_path).free - 20_000_000)
    with pytest.raises(UserError, match=r"a.zip: too large when unpacked.*XDG_CACHE_HOME"):
        sources.unpack(tmp_path / "a.zip", tmp_path / "unpacked")
    assert list((tmp_path / "unpacked").iterdir()) == []


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_a_damaged_archive_is_a_mistake_and_leaves_nothing(files, kind, tmp_path):
    rng = np.random.default_rng(0)
    (files / "noise").write_bytes(rng.bytes(50_000))
    path = tmp_path / shutil.make_archive(str(tmp_path / "export"), kind, files)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged or encrypted \(\w+\); pack or copy it again"):
        sources.unpack(path, tmp_path / "unpacked")
    assert list((tmp_path / "unpacked").iterdir()) == []


def test_an_archive_that_cannot_be_read_is_no_other_one(files, tmp_path, monkeypatch):
    """Without a digest, its folder would be that of any other unreadable archive."""
    path = shutil.make_archive(str(tmp_path / "export"), "zip", files)
    monkeypatch.setattr(sources, "digests", lambda *args, **more: {"export.zip": ""})
    with pytest.raises(UserError, match=r"export\.zip cannot be read"):
        sources.open_source(path, Query())


def test_another_file_is_no_source(tmp_path):
    (tmp_path / "a").write_text("hello")
    with pytest.raises(UserError, match="neither a folder of DICOM files, nor a zip or tar"):
        sources.open_source(str(tmp_path / "a"), Query())
