"""Which files are slides, of which files a slide is made, and whether they have changed."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import stat
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = frozenset(
    (".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif",
     ".czi", ".dcm")
)  # fmt: skip
"""Of the files that a folder is searched for: what OpenSlide reads."""
DICOM = ".dcm"
"""A folder that holds such files is one slide, and they are its files; but one alone beside slides
of another format is a slide by itself."""
FOLDER_BESIDE = ".mrxs"
"""The pixels of NAME.mrxs lie in the folder NAME."""
FILES_BESIDE = (".vms", ".vmu")
"""The pixels of NAME.vms lie in files whose names begin with NAME."""
CLOCK_NS = 2_000_000_000
"""File systems keep times to within two seconds (FAT); a copy may differ by so much."""
SAMPLES, SAMPLE_BYTES = 16, 16_384


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


def find_slides(
    names: Iterable[str], leave_out: Path, complain: Callable[[str], None]
) -> Generator[Path]:
    """Yield every slide once, as an absolute path.

    Parameters
    ----------
    names : iterable of str
        Files, which need not exist; folders, searched with all they hold; patterns such as
        `scans/*.svs` or `scans/**/*.ndpi`.
    leave_out : Path
        A folder that is not searched: what is written is no slide.
    complain : callable
        Called with a line where a folder cannot be read, or a name stands for no slide.
    """
    seen: set[str] = set()
    for name in names:
        found = False
        for path in _slides_of(name, leave_out, complain):
            found = True
            path = _slide_of(path)
            key = os.path.normcase(path)
            if key not in seen:
                seen.add(key)
                yield path
        if not found:
            complain(f"{name}: no slide found")


def _slides_of(name: str, leave_out: Path, complain: Callable[[str], None]) -> Generator[Path]:
    path = absolute(name)
    if path.is_dir():
        yield from _walk(path, leave_out, complain)
    elif glob.has_magic(name) and not path.exists():
        wanted = SUFFIXES | {_suffix(name)}  # a field is taken where its suffix is spelt out
        for match in sorted(glob.glob(name, recursive=True)):  # noqa: PTH207, may be absolute
            path = absolute(match)
            if path.is_dir():
                if not _is_beside(path):
                    yield from _walk(path, leave_out, complain)
            elif leave_out not in path.parents and path.suffix.lower() in wanted:
                yield path
    else:
        yield path


def _slide_of(path: Path) -> Path:
    """Return the slide that a file belongs to: of DICOM its folder, mostly."""
    if path.suffix.lower() != DICOM or not path.is_file():
        return path
    suffixes = [_suffix(name) for name in os.listdir(path.parent)]  # noqa: PTH208, names only
    alone = suffixes.count(DICOM) == 1
    return path if alone and SUFFIXES.intersection(suffixes) > {DICOM} else path.parent


def absolute(name: str | Path) -> Path:
    """Return a path from the root."""
    return Path(os.path.abspath(name))  # noqa: PTH100, links and mapped drives stay as named


def _is_beside(folder: Path) -> bool:
    return folder.with_name(folder.name + FOLDER_BESIDE).exists()


def _walk(top: Path, leave_out: Path, complain: Callable[[str], None]) -> Generator[Path]:
    def cannot(error: OSError) -> None:
        complain(f"{error.filename}: cannot be read ({error.strerror})")

    for folder, folders, files in os.walk(top, onerror=cannot):
        here = Path(folder)
        beside = {name[: -len(FOLDER_BESIDE)] for name in files if _suffix(name) == FOLDER_BESIDE}
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in beside and here / name != leave_out
        )
        slides = [
            name
            for name in sorted(files)
            if _suffix(name) in SUFFIXES and not name.startswith((".", "~"))
        ]
        for name in slides:
            yield here / name


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122, a name, not a path


def title(path: Path) -> str:
    """Return what a slide is called: its file's name without suffix, a DICOM slide's folder."""
    return path.name if path.is_dir() else path.stem


def followed(path: Path) -> Path:
    """Return the file by which OpenSlide finds the folder of a MIRAX slide; others as they are.

    That is where a link leads, and the name in small letters where a file system knows no others.
    """
    if path.suffix.lower() != FOLDER_BESIDE:
        return path
    if path.is_symlink() and not path.with_suffix("").is_dir():
        path = path.resolve()
    small = path.with_suffix(FOLDER_BESIDE)
    return small if small.exists() and small.samefile(path) else path


def files_of(path: Path) -> list[Path]:
    """Return the files of a slide, the one that it is named by first.

    Raises
    ------
    OSError
        A folder cannot be listed.
    """
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix.lower() == DICOM) or [path]
    suffix = path.suffix.lower()
    if suffix == FOLDER_BESIDE:
        folder = followed(path).with_suffix("")
        beside = folder.iterdir() if folder.is_dir() else ()
    elif suffix in FILES_BESIDE:
        beside = (file for file in path.parent.iterdir() if file.name.startswith(path.stem))
    else:
        return [path]
    return [path, *sorted(file for file in beside if file != path and file.is_file())]


def stamp_of(path: Path) -> Stamp:
    """Return what tells cheaply whether a slide has changed.

    Raises
    ------
    OSError
        A file has vanished, cannot be reached, or is no regular one.
    """
    stats = [file.stat() for file in files_of(path)]
    if not all(stat.S_ISREG(s.st_mode) or stat.S_ISDIR(s.st_mode) for s in stats):
        raise OSError(errno.EINVAL, "is a pipe or a device", str(path))  # which may block a reader
    return Stamp(sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats), len(stats))


def fingerprint_of(path: Path) -> str:
    """Return a hash of the sizes and of samples of the files of a slide, whatever its name.

    Two slides of the same size differ in nearly every compressed byte, so some are enough.

    Raises
    ------
    OSError
        A file has vanished or cannot be read.
    """
    found = hashlib.sha256()
    for file in files_of(path):
        size = file.stat().st_size
        found.update(
            f"{file.suffix if file == path else file.name} {size}\n".encode(errors="replace")
        )
        with file.open("rb") as stream:
            for k in range(SAMPLES):
                stream.seek(max(0, size - SAMPLE_BYTES) * k // (SAMPLES - 1))
                found.update(stream.read(SAMPLE_BYTES))
                if size <= SAMPLE_BYTES:
                    break
    return found.hexdigest()
