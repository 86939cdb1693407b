"""Files, folders and patterns become slides, each once; a change is seen, a move is none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import slides
from gliorun.reading import files


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def found(*names: object, leave_out: Path = Path("nowhere")) -> tuple[list[Path], list[str]]:
    amiss: list[str] = []
    return list(files.find_slides(map(str, names), leave_out, amiss.append)), amiss


def test_a_folder_is_searched_with_all_it_holds_but_what_is_no_slide(tmp_path):
    wanted = [put(tmp_path / "b.SVS"), put(tmp_path / "deep" / "er" / "a.ndpi")]
    for name in ("notes.txt", "._b.svs", "~b.svs", "b.svs.part", ".hidden/c.svs", "maps/d.ome.tif"):
        put(tmp_path / name)
    assert found(tmp_path, leave_out=tmp_path / "maps") == (wanted, [])


def test_a_file_is_taken_whatever_its_name_and_even_if_it_is_not_there(tmp_path):
    named, absent = put(tmp_path / "slide.bin"), tmp_path / "absent.svs"
    assert found(named, absent) == ([named, absent], [])


def test_a_pattern_is_expanded_where_the_shell_did_not(tmp_path):
    deep, flat = put(tmp_path / "x" / "y" / "a.svs"), put(tmp_path / "b.svs")
    put(tmp_path / "c.txt")
    assert found(tmp_path / "*.svs") == ([flat], [])
    assert sorted(found(tmp_path / "**" / "*")[0]) == sorted([deep, flat])


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    odd = put(tmp_path / "a[1].svs")
    put(tmp_path / "a1.svs")
    assert found(odd) == ([odd], [])


def test_every_slide_comes_once(tmp_path):
    slide = put(tmp_path / "a.svs")
    assert found(tmp_path, slide, tmp_path / "*.svs", tmp_path / "." / "a.svs") == ([slide], [])


def test_what_holds_no_slide_is_named(tmp_path):
    put(tmp_path / "notes.txt")
    slides, amiss = found(tmp_path, tmp_path / "*.svs")
    assert slides == []
    assert amiss == [f"{tmp_path}: no slide found", f"{tmp_path / '*.svs'}: no slide found"]


def test_a_link_in_a_circle_ends(tmp_path):
    slide = put(tmp_path / "a.svs")
    try:
        (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    assert found(tmp_path) == ([slide], [])


def test_the_folder_beside_an_mrxs_belongs_to_it(tmp_path):
    slide = put(tmp_path / "a.mrxs")
    inside = [put(tmp_path / "a" / name, name.encode()) for name in ("Data0.dat", "Slidedat.ini")]
    put(tmp_path / "a" / "preview.tif")
    assert found(tmp_path) == ([slide], [])
    assert files.files_of(slide)[0] == slide
    assert set(inside) < set(files.files_of(slide))
    before = files.stamp_of(slide), files.fingerprint_of(slide)
    put(tmp_path / "a" / "Data0.dat", b"Data1.dat")
    os.utime(inside[0], ns=(0, before[0].changed_ns + 10**10))
    assert files.stamp_of(slide) != before[0]
    assert files.fingerprint_of(slide) != before[1]


def test_a_folder_of_dicom_files_is_one_slide_called_like_it(tmp_path):
    case = slides.dicom(tmp_path / "case.1", slides.all_tissue(400, 300))
    other = put(case / "level1.dcm")
    for names in ((tmp_path,), (case,), (other,), (case / "*.dcm",)):
        assert found(*names) == ([case], [])
    assert files.files_of(case) == [case / "level0.dcm", other]
    assert files.title(case) == "case.1"
    before = files.fingerprint_of(case)
    put(other, b"more")
    assert files.fingerprint_of(case) != before


def test_a_dicom_file_alone_beside_other_slides_is_a_slide_by_itself(tmp_path):
    """Else the folder, and not the file, would be called a slide that cannot be read."""
    loose, slide = put(tmp_path / "loose.dcm"), put(tmp_path / "a.svs")
    case = slides.dicom(tmp_path / "case", slides.all_tissue(400, 300))
    assert found(tmp_path) == ([slide, loose, case], [])
    assert found(loose) == ([loose], [])
    assert files.files_of(loose) == [loose]
    put(tmp_path / "more.dcm")  # now they may be one slide
    assert found(tmp_path) == ([slide, tmp_path, case], [])


def test_a_pattern_finds_fields_where_it_spells_out_their_suffix(tmp_path):
    field, slide = put(tmp_path / "b.png"), put(tmp_path / "a.svs")
    assert found(tmp_path / "*.png") == ([field], [])
    assert found(tmp_path / "*") == found(tmp_path) == ([slide], [])


def test_the_folder_of_an_mrxs_is_found_through_a_link(tmp_path):
    slide = put(tmp_path / "store" / "a.mrxs")
    inside = put(tmp_path / "store" / "a" / "Data0.dat")
    link = tmp_path / "link.mrxs"
    try:
        link.symlink_to(slide)
    except OSError:
        pytest.skip("no links here")
    assert files.files_of(link) == [link, inside]
    beside = put(tmp_path / "link" / "Data0.dat")  # then that is meant
    assert files.files_of(link) == [link, beside]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_has_no_stamp(tmp_path):
    os.mkfifo(tmp_path / "a.svs")
    with pytest.raises(OSError, match="is a pipe or a device"):
        files.stamp_of(tmp_path / "a.svs")


def test_the_images_of_a_vms_belong_to_it(tmp_path):
    slide, image = put(tmp_path / "a.vms"), put(tmp_path / "a(1,0).jpg")
    put(tmp_path / "b.vms")
    assert files.files_of(slide) == [slide, image]


def test_the_fingerprint_is_of_the_content_not_of_the_name_or_time(tmp_path):
    one = put(tmp_path / "a.svs", bytes(range(256)) * 4000)
    other = Path(shutil.copy(one, tmp_path / "b.svs"))
    assert files.fingerprint_of(one) == files.fingerprint_of(other)
    content = bytearray(one.read_bytes())
    content[len(content) // 2] ^= 1  # the middle is a sample's
    content[0] ^= 1
    other.write_bytes(content)
    assert files.fingerprint_of(one) != files.fingerprint_of(other)


@pytest.mark.parametrize("size", [0, 1, files.SAMPLE_BYTES, files.SAMPLE_BYTES + 1])
def test_a_small_file_is_sampled_to_its_last_byte(tmp_path, size):
    one, other = put(tmp_path / "a.svs", b"a" * size), put(tmp_path / "b.svs", b"a" * size)
    assert files.fingerprint_of(one) == files.fingerprint_of(other)
    if size:
        put(other, b"a" * (size - 1) + b"b")
        assert files.fingerprint_of(one) != files.fingerprint_of(other)


def test_a_file_system_of_coarse_time_changes_nothing():
    stamp = files.Stamp(10, 5_000_000_000, 1)
    assert stamp.near(files.Stamp(10, 6_900_000_000, 1))
    assert not stamp.near(files.Stamp(10, 7_100_000_000, 1))
    assert not stamp.near(files.Stamp(11, 5_000_000_000, 1))


def test_a_vanished_slide_has_no_stamp(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.stamp_of(tmp_path / "gone.svs")
