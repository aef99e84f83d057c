"""The store: decoded once, noticed when anything changes, equal to reading directly."""

import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from tf_dicom_ce import whole_files
from tf_dicom_ce.data import store
from tf_dicom_ce.data.datasets import evaluation_dataset
from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.decoding import ImageReader, Sample
from tf_dicom_ce.intake.index import choose_frames, scan
from tf_dicom_ce.preprocessing import resize
from tf_dicom_ce.tags.schema import TagSchema

SIZE = (32, 64)
SCHEMA = TagSchema.load("ultrasound")


def images(root, frames="middle"):
    index = scan(root / "data", SCHEMA, progress=False)
    return ImageReader(index.root, SCHEMA.sop_classes), choose_frames(index.rows, frames)


def open_store(root, size=SIZE, frames="middle"):
    return store.open_store(*images(root, frames), size, root / "cache")


@pytest.fixture
def files(write, tmp_path):
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (40 + k, 70), dtype=np.uint8) for k in range(3)]
    for k, array in enumerate(pixels):
        write(f"data/{k}.dcm", array, PatientID=f"Patient-{k}")
    return pixels


def test_frames_are_the_resized_files(files, tmp_path):
    frames = open_store(tmp_path).read(np.array([2, 0]))
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames[0], resize(files[2][..., None], SIZE))
    np.testing.assert_array_equal(frames[1], resize(files[0][..., None], SIZE))


def test_places_are_where_frames_were_in_their_sources(files, write, tmp_path):
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType = 1, 1
    region.RegionLocationMinX0, region.RegionLocationMaxX1 = 10, 59
    region.RegionLocationMinY0, region.RegionLocationMaxY1 = 5, 34
    write("data/1.dcm", files[1], SequenceOfUltrasoundRegions=[region])
    for _ in range(2):  # as built and as found
        np.testing.assert_array_equal(
            open_store(tmp_path).places,
            [[40, 70, 0, 40, 0, 70], [41, 70, 5, 35, 10, 60], [42, 70, 0, 42, 0, 70]],
        )


def test_a_run_waits_for_another_that_decodes_and_then_decodes_nothing(files, tmp_path, capsys):
    open_store(tmp_path, (64, 64))
    (folder,) = (tmp_path / "cache").iterdir()
    for name in ("images.bin", "frames.bin", "told.jsonl", "whole.json"):
        (folder / name).rename(tmp_path / name)
    found = []
    with whole_files.sole(folder / ".lock", "busy"):
        waiting = threading.Thread(target=lambda: found.append(open_store(tmp_path, (64, 64))))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        for name in ("images.bin", "frames.bin", "told.jsonl", "whole.json"):
            (tmp_path / name).rename(folder / name)
    waiting.join()
    assert found[0].decoded == 0
    assert "another process is decoding" in capsys.readouterr().err


def test_direct_reading_gives_the_same_pixels(files, tmp_path):
    direct = store.DirectReader(*images(tmp_path), SIZE)
    rows = np.arange(3)
    np.testing.assert_array_equal(direct.read(rows), open_store(tmp_path).read(rows))


def test_frames_of_a_cine_are_rows_of_their_own(write, tmp_path):
    cine = np.random.default_rng(1).integers(0, 256, (20, 40, 60), dtype=np.uint8)
    write("data/a.dcm", cine[0], NumberOfFrames=20, PixelData=cine.tobytes())
    write("data/b.dcm", cine[5])
    opened = open_store(tmp_path, (40, 60), "all")
    np.testing.assert_array_equal(opened.read(np.arange(21))[..., 0], [*cine, cine[5]])
    middle = open_store(tmp_path, (40, 60))
    np.testing.assert_array_equal(middle.read([0, 1])[..., 0], cine[[10, 5]])
    direct = store.DirectReader(*images(tmp_path, "every:9"), (40, 60))
    np.testing.assert_array_equal(direct.read([0, 1, 2, 3])[..., 0], cine[[0, 9, 18, 5]])


def test_decoded_once_and_anew_when_a_file_or_the_size_changes(files, write, tmp_path):
    assert open_store(tmp_path).decoded == 3
    assert open_store(tmp_path).decoded == 0
    assert open_store(tmp_path, (64, 64)).decoded == 3
    write("data/1.dcm", 255 - files[1], PatientID="Patient-1")
    changed = open_store(tmp_path)
    assert changed.decoded == 1
    np.testing.assert_array_equal(
        changed.read(np.array([1]))[0], resize((255 - files[1])[..., None], SIZE)
    )


def test_folders_alike_in_names_sizes_and_times_are_two(write, tmp_path):
    """As de-identification or `tar --mtime` leave them; also where one takes the other's place."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 70), dtype=np.uint8)
    for name, array in zip(("one/data", "two/data"), pixels, strict=True):
        uids = {"SOPInstanceUID": "1.2", "StudyInstanceUID": "1.3"}
        os.utime(write(f"{name}/0", array, **uids), ns=(10**18, 10**18))
    one, two = (open_store(tmp_path / name) for name in ("one", "two"))
    assert one.fingerprint != two.fingerprint
    for opened, array in ((one, pixels[0]), (two, pixels[1])):
        np.testing.assert_array_equal(opened.read([0])[0], resize(array[..., None], SIZE))
    stamps = [(tmp_path / name / "data/0").stat() for name in ("one", "two")]
    assert len({(s.st_size, s.st_mtime_ns) for s in stamps}) == 1
    (tmp_path / "one").rename(tmp_path / "gone")
    (tmp_path / "two").rename(tmp_path / "one")
    again = open_store(tmp_path / "one")
    assert again.fingerprint == two.fingerprint
    np.testing.assert_array_equal(again.read([0])[0], resize(pixels[1][..., None], SIZE))


def test_moved_data_find_their_store(files, tmp_path):
    before = open_store(tmp_path)
    shutil.copytree(tmp_path / "data", tmp_path / "new/data", copy_function=shutil.copyfile)
    shutil.copytree(tmp_path / "cache", tmp_path / "new/cache")
    moved = open_store(tmp_path / "new")
    assert (moved.fingerprint, moved.decoded) == (before.fingerprint, 0)


def test_the_fingerprint_is_of_bytes_and_frames(files, tmp_path):
    digests = [
        hashlib.sha256((tmp_path / "data" / f"{k}.dcm").read_bytes()).hexdigest() for k in range(3)
    ]
    content = json.dumps([[digest, None] for digest in digests])
    assert open_store(tmp_path).fingerprint == hashlib.sha256(content.encode()).hexdigest()
    direct = store.DirectReader(*images(tmp_path), SIZE)
    assert direct.fingerprint == open_store(tmp_path).fingerprint


def test_files_that_change_while_they_are_read_do_not_count(files, write, tmp_path, monkeypatch):
    resized = store._resized

    def changing(frame, size):
        write("data/1.dcm", 255 - files[1], PatientID="Patient-1")
        return resized(frame, size)

    with monkeypatch.context() as patch:
        patch.setattr(store, "_resized", changing)
        with pytest.raises(UserError, match="files changed while they were read"):
            open_store(tmp_path)
    found = open_store(tmp_path)
    assert found.decoded == 3
    np.testing.assert_array_equal(found.read([1])[0], resize((255 - files[1])[..., None], SIZE))


def test_new_files_alone_are_decoded_and_rows_keep_the_order_of_paths(files, write, tmp_path):
    open_store(tmp_path)
    early, late = (np.full((40, 70), level, np.uint8) for level in (60, 90))
    write("data/0-early.dcm", early)
    write("data/9-late.dcm", late)
    grown = open_store(tmp_path)
    assert grown.decoded == 2
    expected = [files[0], early, files[1], files[2], late]  # as paths are ordered
    paths = [image.path for image in images(tmp_path)[1]]
    assert paths == sorted(paths)
    order = dict(
        zip(["0.dcm", "0-early.dcm", "1.dcm", "2.dcm", "9-late.dcm"], expected, strict=True)
    )
    for row, path in enumerate(paths):
        np.testing.assert_array_equal(grown.read([row])[0], resize(order[path][..., None], SIZE))
    anew = store.open_store(*images(tmp_path), SIZE, tmp_path / "another")
    assert (anew.decoded, anew.fingerprint) == (5, grown.fingerprint)
    np.testing.assert_array_equal(anew.read(np.arange(5)), grown.read(np.arange(5)))
    np.testing.assert_array_equal(anew.places, grown.places)


# A busy machine; an extra that is installed later.
@pytest.mark.parametrize("code", [Code.TIMED_OUT, Code.UNSUPPORTED_TRANSFER_SYNTAX])
def test_what_may_pass_is_tried_again(files, tmp_path, monkeypatch, code):
    decode = store.decode_images

    def lose(*args):
        for k, found in decode(*args):
            yield k, Refusal(code) if k == 1 else found

    with monkeypatch.context() as patch:
        patch.setattr(store, "decode_images", lose)
        assert open_store(tmp_path).refusals == {1: Refusal(code)}
    found = open_store(tmp_path)
    assert (found.decoded, found.refusals) == (1, {})
    np.testing.assert_array_equal(found.read([1])[0], resize(files[1][..., None], SIZE))
    assert open_store(tmp_path).decoded == 0


def test_equal_files_are_decoded_once(files, write, tmp_path):
    for name in ("a", "b"):
        shutil.copy(tmp_path / "data/1.dcm", tmp_path / f"data/{name}.dcm")
    reader = ImageReader(tmp_path / "data", SCHEMA.sop_classes)
    chosen = [Sample(f"{name}.dcm", k, None) for k, name in enumerate(("a", "0", "b", "1", "a"))]
    found = store.open_store(reader, chosen, SIZE, tmp_path / "cache")
    assert found.decoded == 2
    np.testing.assert_array_equal(found.numbers, [0, 1, 0, 0, 0])


def test_an_undecodable_file_costs_one_row(files, write, tmp_path):
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless

    write("data/1.dcm", files[1], syntax=JPEG2000Lossless, PixelData=encapsulate([b"junk" * 9]))
    for _ in range(2):  # as built and as found
        opened = open_store(tmp_path)
        assert {k: refusal.code for k, refusal in opened.refusals.items()} == {
            1: Code.DECODE_FAILED
        }
        np.testing.assert_array_equal(opened.read([2])[0], resize(files[2][..., None], SIZE))


def test_of_a_build_that_dies_what_was_committed_stays(files, tmp_path, monkeypatch):
    resized, calls = store._resized, []

    def die(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return resized(*args)

    with monkeypatch.context() as patch:
        patch.setattr(store, "_COMMIT", 1)
        patch.setattr(store, "_resized", die)
        with pytest.raises(KeyboardInterrupt):
            open_store(tmp_path)
    found = open_store(tmp_path)
    assert found.decoded == 1
    for row in range(3):
        np.testing.assert_array_equal(found.read([row])[0], resize(files[row][..., None], SIZE))


def test_what_lies_beyond_the_last_commit_is_written_over(files, write, tmp_path):
    """As after a power cut: longer files than whole.json knows of."""
    open_store(tmp_path)
    (folder,) = (tmp_path / "cache").iterdir()
    for name in ("images.bin", "frames.bin", "told.jsonl"):
        with (folder / name).open("ab") as file:
            file.write(b"half a record")
    write("data/4.dcm", files[0][::-1].copy())
    found = open_store(tmp_path)
    assert found.decoded == 1
    np.testing.assert_array_equal(found.read([3])[0], resize(files[0][::-1, :, None], SIZE))
    assert (folder / "images.bin").stat().st_size == 4 * 32 * 64


def test_a_damaged_store_is_named(files, tmp_path):
    open_store(tmp_path)
    (folder,) = (tmp_path / "cache").iterdir()
    os.truncate(folder / "images.bin", 100)
    with pytest.raises(UserError, match=r"images.bin is damaged. Delete .*; it will be made anew"):
        open_store(tmp_path)


def test_a_mapped_file_takes_no_memory_of_the_process(tmp_path):
    def own_memory():
        found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
        return int(found[1]) / 1024

    def first_pixels(rows, count):
        mapped = store.mapped(tmp_path / "images.bin", (count, 256, 256))
        frames = store.Store(mapped, np.arange(count), None, {}, "")
        np.testing.assert_array_equal(frames.read(rows)[..., 0], array[rows])
        batches = evaluation_dataset(frames, array[:, 0, 0], rows, batch_size=8)
        return np.concatenate([y for _, y in batches])

    array = np.random.default_rng(0).integers(0, 256, (1000, 256, 256), np.uint8)  # 62.5 MiB
    array.tofile(tmp_path / "images.bin")
    first_pixels(np.arange(10), 10)  # what TensorFlow takes once
    before = own_memory()
    rows = np.arange(0, 1000, 50)
    np.testing.assert_array_equal(first_pixels(rows, 1000), array[rows, 0, 0])
    assert own_memory() < before + 20


def test_the_store_names_nobody(files, tmp_path):
    open_store(tmp_path)
    contents = b"".join(p.read_bytes() for p in (tmp_path / "cache").rglob("*") if p.is_file())
    assert len(contents) > 3 * 32 * 64
    (folder,) = (tmp_path / "cache").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700  # pixels are for their user alone
    for word in (b"Patient-0", b"0.dcm", str(tmp_path).encode()):
        assert word not in contents


def stream(pixels, end=2):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()[:-end]


def test_what_decoding_told_is_kept(files, write, tmp_path):
    """And what is left out for it."""
    data = encapsulate([stream(files[1])])
    write("data/1.dcm", files[1], syntax=JPEGBaseline8Bit, PixelData=data)
    write("data/2.dcm", files[2], BurnedInAnnotation="YES")
    reader, chosen = images(tmp_path)
    told = {1: (Flag.NO_END_MARKER,)}  # not what the header tells as well
    for decoded in (3, 0):
        found = store.open_store(reader, chosen, SIZE, tmp_path / "cache")
        assert (found.decoded, found.flags) == (decoded, told)
    assert store.DirectReader(reader, chosen, SIZE).flags == told
    without = dataclasses.replace(reader, exclude=frozenset({Flag.NO_END_MARKER}))
    found = store.open_store(without, chosen, SIZE, tmp_path / "cache")
    assert found.refusals == {1: Refusal(Code.EXCLUDED)}
    assert (found.decoded, found.flags) == (3, {})


def test_blackened_pixels_have_a_store_of_their_own(files, tmp_path):
    reader, chosen = images(tmp_path)
    store.open_store(reader, chosen, SIZE, tmp_path / "cache")
    blank = dataclasses.replace(reader, blank_outside=True)
    found = store.open_store(blank, chosen, SIZE, tmp_path / "cache")
    assert found.decoded == 3
    # Noise all over is taken for the ultrasound, nearly to the edge.
    assert found.flags == dict.fromkeys(range(3), (Flag.BLACKENED,))
