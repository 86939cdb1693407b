"""Which files are slides, of which files a slide is made, and whether they have changed."""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

from gliorun.errors import GlioError

SUFFIXES = frozenset(
    (".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif",
     ".czi", ".dcm")
)  # fmt: skip
"""Of the files that a folder is searched for: what OpenSlide reads."""
DICOM = ".dcm"
"""A folder that holds such files is one slide, and they are its files, whichever is named."""
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
            path = path.parent if path.suffix.lower() == DICOM and is_file(path) else path
            key = os.path.normcase(path)
            if key not in seen:
                seen.add(key)
                yield path
        if not found:
            complain(f"{name}: no slide found")


def _slides_of(name: str, leave_out: Path, complain: Callable[[str], None]) -> Generator[Path]:
    path = absolute(name)
    if is_folder(path):
        yield from _walk(path, leave_out, complain)
    elif glob.has_magic(name) and not is_there(path):
        for match in sorted(glob.glob(name, recursive=True)):  # noqa: PTH207, may be absolute
            path = absolute(match)
            if is_folder(path):
                if not _is_beside(path):
                    yield from _walk(path, leave_out, complain)
            elif leave_out not in path.parents and path.suffix.lower() in SUFFIXES:
                yield path
    else:
        yield path


def absolute(name: str | Path) -> Path:
    """Return a path from the root."""
    return Path(os.path.abspath(name))  # noqa: PTH100, links and mapped drives stay as named


def _is_beside(folder: Path) -> bool:
    return is_there(folder.with_name(folder.name + FOLDER_BESIDE))


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
    return path.name if is_folder(path) else path.stem


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
        folder = path.with_suffix("")
        beside = folder.iterdir() if folder.is_dir() else ()
    elif suffix == DICOM:
        beside = (file for file in path.parent.iterdir() if file.suffix.lower() == DICOM)
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
        A file has vanished or cannot be reached.
    """
    stats = [file.stat() for file in files_of(path)]
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


def check_file(path: Path, noun: str, way_out: str) -> None:
    """Refuse a file that is not there or cannot be read; `noun` is what it should be.

    Raises
    ------
    GlioError
        One of both.
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
