"""Files, folders and patterns become slides, each once; a change is seen, a move is none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import tifffile

import batches
import slides
from gliorun.reading import files
from gliorun.reading.slide import Slide


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def found(*names: object, leave_out: Path = Path("nowhere")) -> tuple[list[Path], list[str]]:
    faults: list[str] = []

    def complain(name: str, fault: str) -> None:
        faults.append(f"{name}: {fault}")

    return list(files.find_slides(map(str, names), leave_out, complain)), faults


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
    slides, faults = found(tmp_path, tmp_path / "*.svs")
    assert slides == []
    assert faults == [f"{tmp_path}: no slide found", f"{tmp_path / '*.svs'}: no slide found"]


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


def test_a_folder_of_dicom_files_without_suffix_is_one_slide_too(tmp_path):
    case = slides.dicom(tmp_path / "case.1", slides.all_tissue(400, 300))
    plain = (case / "level0.dcm").rename(case / "IM0001")
    by_number = Path(shutil.copy(plain, case / "1.2.840.113619.2.55"))
    put(case / ".DS_Store")
    for names in ((tmp_path,), (case,), (plain,), (case / "*",), (tmp_path / "**" / "*",)):
        assert found(*names) == ([case], [])
    assert files.files_of(case) == [by_number, plain]
    before = files.stamp_of(case)
    put(case / ".DS_Store", b"looked at")
    assert files.stamp_of(case) == before
    by_number.unlink()
    assert files.stamp_of(case) != before


def test_a_file_without_suffix_that_is_no_whole_slide_is_none(tmp_path):
    """The directory of a DICOM medium names the class of its slides as well, as another entry."""
    case = slides.dicom(tmp_path / "case", slides.all_tissue(400, 300))
    head = (case / "level0.dcm").read_bytes()
    entry = head.index(files.WHOLE_SLIDE)
    put(tmp_path / "DICOMDIR", head[:entry] + b"\x04\x00\x10\x15" + head[entry + 4 :])
    put(tmp_path / "README")
    assert found(tmp_path) == ([case], [])


@pytest.mark.parametrize("suffix", [".ptif", ".PTIFF", ".btf"])
def test_a_pyramid_under_a_rarer_suffix_is_found(tmp_path, suffix):
    slide = put(tmp_path / f"a{suffix}")
    assert found(tmp_path) == ([slide], [])


@pytest.fixture(scope="module")
def own_maps(tmp_path_factory) -> Path:
    """A folder with a slide and the maps that a run has written beside it."""
    folder = tmp_path_factory.mktemp("own")
    slide = batches.tiny(folder / "a.svs")
    names = ("a.ome.tif", "A.MASK.OME.TIF", "a.dcm", "a.nuclei.dcm")
    words = [word for name in names for word in ("--out", folder / name)]
    done = batches.type_in(slide, *words)
    assert done.returncode == 0, done.stderr
    return folder


def test_what_gliorun_has_written_is_no_slide(own_maps):
    slide = own_maps / "a.svs"
    for name in (own_maps, own_maps / "*"):
        assert found(name) == ([slide], [])
    assert found(own_maps / "a.ome.tif")[0] == [own_maps / "a.ome.tif"]  # named, so its run tells


def test_a_map_of_gliorun_is_no_slide_whatever_its_name(own_maps, tmp_path):
    for name in ("a.ome.tiff", "b.tif", "C.TIFF"):
        shutil.copy(own_maps / "a.ome.tif", tmp_path / name)
    assert found(tmp_path)[0] == []


def test_a_map_beside_a_dicom_slide_changes_nothing_of_it(own_maps, tmp_path):
    slide = slides.dicom(tmp_path / "case", slides.all_tissue(512, 256))
    before, level = files.stamp_of(slide), slide / "level0.dcm"
    for name in ("a.dcm", "a.nuclei.dcm"):
        shutil.copy(own_maps / name, slide)
    assert files.stamp_of(slide) == before
    assert files.files_of(level) == [level]
    assert found(tmp_path) == ([slide], [])
    with Slide(slide) as opened:
        assert opened.size_l0 == (512, 256)


def test_the_ome_tiff_of_another_program_is_a_slide(tmp_path):
    slide = tmp_path / "a.ome.tif"
    tifffile.imwrite(slide, slides.all_tissue(512, 512), tile=(256, 256), photometric="rgb")
    odd = put(tmp_path / "odd.ome.tif", b"II*\0\x08\0")
    assert found(tmp_path) == ([slide, odd], [])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes among files here")
def test_a_pipe_has_no_stamp_and_a_search_does_not_read_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.svs")
    with pytest.raises(OSError, match="is a pipe or a device"):
        files.stamp_of(tmp_path / "pipe.svs")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.ome.tif")
    assert len(found(tmp_path)[0]) == 2  # called slides, so something is told of them


def test_a_name_that_no_file_system_can_hold_is_only_not_there(tmp_path):
    """Where `Path.is_dir` raises, as it does of a file in a folder that one may not enter."""
    name = tmp_path / ("a" * 300)
    assert found(name) == ([name], [])
    assert files.title(name) == name.name


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
