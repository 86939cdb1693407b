"""Which files are slides, of which files a slide is made, and whether they have changed."""

from __future__ import annotations

import errno
import filecmp
import glob
import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gliorun.errors import GlioError
from gliorun.reading.ownmap import is_own_map

SUFFIXES = frozenset(
    (".svs", ".tif", ".tiff", ".ptif", ".ptiff", ".btf", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs",
     ".svslide", ".bif", ".czi", ".dcm")
)  # fmt: skip
"""Suffixes of the slides that are searched for in a folder: the formats of OpenSlide."""
DICOM = ".dcm"
"""A folder that holds such files is one slide; but a single one beside slides of another format is
a slide by itself."""
NO_SUFFIX = re.compile(r"(\.\d+)?")
"""Suffix of a DICOM file without ".dcm": none, or the last number of its identifier."""
DICOM_HEAD_BYTES, DICOM_MARK = 1024, slice(128, 132)
WHOLE_SLIDE = b"\x02\x00\x02\x00UI\x1e\x001.2.840.10008.5.1.4.1.1.77.1.6"
"""Entry (0002,0002) in the head of a DICOM file: the class of images that are whole slides."""
NO_SLIDE = "no slide found"
FOLDER_BESIDE = ".mrxs"
"""The pixels of NAME.mrxs lie in the folder NAME."""
FILES_BESIDE = (".vms", ".vmu")
"""The pixels of NAME.vms lie in files whose names begin with NAME."""
CLOCK_NS = 2_000_000_000
"""File systems keep times to within two seconds (FAT); a copy may differ by so much."""
SAMPLES, SAMPLE_BYTES = 16, 16_384
HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Stamp:
    """Size, time of the last change, and number of the files of a slide."""

    size_bytes: int
    changed_ns: int
    files: int

    def near(self, other: Stamp) -> bool:
        """Whether both may be of the same files, seen through different file systems."""
        same = (self.size_bytes, self.files) == (other.size_bytes, other.files)
        return same and abs(self.changed_ns - other.changed_ns) <= CLOCK_NS


# pathlib raises where a folder may not be entered, or a name is too long; os.path answers


def is_there(path: Path) -> bool:
    """Tell whether there is a file or folder that can be reached."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    """Tell whether there is a folder that can be reached."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: Path) -> bool:
    """Tell whether there is a regular file that can be reached: no pipe, which would block."""
    return os.path.isfile(path)  # noqa: PTH113


Complain = Callable[[str, str], None]
"""Called with a name and the fault that it has."""


def find_slides(names: Iterable[str], leave_out: Path, complain: Complain) -> Generator[Path]:
    """Yield every slide once, as an absolute path.

    Parameters
    ----------
    names : iterable of str
        Files, which need not exist; folders, searched with all they hold; patterns such as
        `scans/*.svs` or `scans/**/*.ndpi`.
    leave_out : Path
        A folder that is not searched, because it holds outputs.
    complain : callable
        Called where a folder cannot be read, or a name stands for no slide.
    """
    seen: set[str] = set()
    for name in names:
        holds_slides = False
        for path in _slides_of(name, leave_out, complain):
            holds_slides = True
            path = _slide_of(path)
            key = os.path.normcase(path)
            if key not in seen:
                seen.add(key)
                yield path
        if not holds_slides:
            complain(name, NO_SLIDE)


def _slides_of(name: str, leave_out: Path, complain: Complain) -> Generator[Path]:
    path = absolute(name)
    if is_folder(path):
        yield from _walk(path, leave_out, complain)
    elif glob.has_magic(name) and not is_there(path):
        wanted = SUFFIXES | {
            _suffix(name)
        }  # a field is taken only if the pattern spells out its suffix
        for match in sorted(glob.glob(name, recursive=True)):  # noqa: PTH207, may be absolute
            path = absolute(match)
            if is_folder(path):
                if not _is_beside(path):
                    yield from _walk(path, leave_out, complain)
            elif leave_out not in path.parents and _is_slide(path, wanted):
                yield path
    else:
        yield path


def _is_slide(path: Path, wanted: Collection[str] = SUFFIXES) -> bool:
    """Tell whether a file found in a folder is a slide, by its name if possible.

    A map that gliorun has written is not, wherever it lies.
    """
    if path.suffix.lower() in wanted:
        return not (is_file(path) and is_own_map(path))
    return _is_dicom(path)


def _is_dicom(path: Path) -> bool:
    """Tell whether a file belongs to a DICOM slide: by its suffix, or without one by its head."""
    if path.suffix.lower() == DICOM:
        return is_file(path) and not is_own_map(path)
    if not NO_SUFFIX.fullmatch(path.suffix) or not is_file(path):
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(DICOM_HEAD_BYTES)
    except OSError:
        return False  # an unreadable file without the suffix of a slide is skipped
    return head[DICOM_MARK] == b"DICM" and WHOLE_SLIDE in head


def _slide_of(path: Path) -> Path:
    """Return the slide that a file belongs to; for DICOM that is mostly the folder."""
    if not _is_dicom(path):
        return path
    try:
        names = os.listdir(path.parent)  # noqa: PTH208, names only
    except OSError:  # it has just vanished
        return path
    family = (name for name in names if _may_be_dicom(name) and _is_dicom(path.parent / name))
    alone = len(list(islice(family, 2))) == 1
    beside = any(_suffix(name) in SUFFIXES - {DICOM} for name in names)
    return path if alone and beside else path.parent


def absolute(name: str | Path) -> Path:
    """Return the absolute path, with links and mapped drives as they were named."""
    return Path(os.path.abspath(name))  # noqa: PTH100, links and mapped drives stay as named


def _is_beside(folder: Path) -> bool:
    return is_there(folder.with_name(folder.name + FOLDER_BESIDE))


def _walk(top: Path, leave_out: Path, complain: Complain) -> Generator[Path]:
    def cannot(error: OSError) -> None:
        complain(str(error.filename), f"cannot be read ({error.strerror})")

    for folder, folders, files in os.walk(top, onerror=cannot):
        here = Path(folder)
        beside = {name[: -len(FOLDER_BESIDE)] for name in files if _suffix(name) == FOLDER_BESIDE}
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in beside and here / name != leave_out
        )
        for name in sorted(files):
            if not name.startswith((".", "~")) and _is_slide(here / name):
                yield here / name


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122, a name, not a path


def title(path: Path) -> str:
    """Return the name of a slide: its file name without suffix, or its DICOM folder."""
    return path.name if is_folder(path) else path.stem


def followed(path: Path) -> Path:
    """Return the path by which OpenSlide finds the folder of a MIRAX slide; other paths unchanged.

    Links are followed, and the name is in lower case if the file system ignores case.
    """
    if path.suffix.lower() != FOLDER_BESIDE:
        return path
    if path.is_symlink() and not path.with_suffix("").is_dir():
        path = path.resolve()
    small = path.with_suffix(FOLDER_BESIDE)
    return small if small.exists() and small.samefile(path) else path


def files_of(path: Path) -> list[Path]:
    """Return the files of a slide, beginning with the one that names it.

    Raises
    ------
    OSError
        A folder cannot be listed.
    """
    if path.is_dir():
        return sorted(file for file in path.iterdir() if _may_be_in_slide(file)) or [path]
    suffix = path.suffix.lower()
    if suffix == FOLDER_BESIDE:
        folder = followed(path).with_suffix("")
        beside = folder.iterdir() if folder.is_dir() else ()
    elif suffix == DICOM:
        beside = (file for file in path.parent.iterdir() if _may_be_in_slide(file, DICOM))
    elif suffix in FILES_BESIDE:
        beside = (file for file in path.parent.iterdir() if file.name.startswith(path.stem))
    else:
        return [path]
    return [path, *sorted(file for file in beside if file != path and file.is_file())]


def _may_be_in_slide(file: Path, suffix: str | None = None) -> bool:
    """Tell whether a file may belong to a DICOM slide: an output that lies beside it does not."""
    if not (_may_be_dicom(file.name) if suffix is None else file.suffix.lower() == suffix):
        return False
    return file.suffix.lower() != DICOM or not (is_file(file) and is_own_map(file))


def _may_be_dicom(name: str) -> bool:
    suffix = _suffix(name)
    return suffix == DICOM or (not name.startswith(".") and bool(NO_SUFFIX.fullmatch(suffix)))


def stamp_of(path: Path) -> Stamp:
    """Return a cheap stamp that shows whether a slide has changed.

    Raises
    ------
    OSError
        A file has vanished, cannot be reached, or is no regular one.
    """
    stats = [file.stat() for file in files_of(path)]
    if not all(stat.S_ISREG(s.st_mode) or stat.S_ISDIR(s.st_mode) for s in stats):
        raise OSError(
            errno.EINVAL, "is a pipe or a device", str(path)
        )  # a pipe could block its reader
    return Stamp(sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats), len(stats))


def fingerprint_of(path: Path) -> str:
    """Return a hash of the sizes and of samples of the files of a slide, but not of its name.

    Two slides of the same size differ in nearly every compressed byte, so samples are enough. They
    cannot detect a damaged copy: `same_content` compares every byte.

    Raises
    ------
    OSError
        A file has vanished or cannot be read.
    """
    digest = hashlib.sha256()
    for file in files_of(path):
        size = file.stat().st_size
        digest.update(
            f"{file.suffix if file == path else file.name} {size}\n".encode(errors="replace")
        )
        with file.open("rb") as stream:
            for k in range(SAMPLES):
                stream.seek(max(0, size - SAMPLE_BYTES) * k // (SAMPLES - 1))
                digest.update(stream.read(SAMPLE_BYTES))
                if size <= SAMPLE_BYTES:
                    break
    return digest.hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file of any size, in hexadecimal.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def same_content(path: Path, other: Path) -> bool:
    """Tell whether two slides are the same to the last byte; False where one cannot be read."""
    try:
        pairs = list(zip(files_of(path), files_of(other), strict=True))
        return all(filecmp.cmp(*pair, shallow=False) for pair in pairs)
    except (OSError, ValueError):  # unreachable, or another number of files
        return False


def check_file(path: Path, noun: str, way_out: str) -> None:
    """Refuse a missing or unreadable file; `noun` says what it should be.

    Raises
    ------
    GlioError
        The file is missing or unreadable.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise GlioError(f"{path}: no such {noun}; {way_out}")
        with path.open("rb"):
            pass
    except (FileNotFoundError, NotADirectoryError) as error:
        raise GlioError(f"{path}: no such {noun}; {way_out}") from error
    except OSError as error:
        raise GlioError(
            f"{path}: cannot be read ({error.strerror}); check that you may read it"
        ) from error
