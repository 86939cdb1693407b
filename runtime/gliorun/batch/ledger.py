"""Keep a record of every slide of an output folder, safe against kills and restarts."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from gliorun.atomic import cannot_write, move_all, replacing
from gliorun.batch.filename import file_name
from gliorun.errors import GlioError, UsageError
from gliorun.hashname import DIGITS, HIDDEN, is_hidden, token_of
from gliorun.reading.files import (
    Stamp,
    fingerprint_of,
    is_there,
    same_content,
    sha256_of_file,
    stamp_of,
    title,
)
from gliorun.sliderecord import Record

RECORDS = "records"
"""Subfolder of the output folder; it holds one record per slide."""
CHECKSUMS = ".sha256"
"""Suffix of the file beside a record that holds the hash of every output."""
MAX_INTERRUPTED = 5
"""A slide is given up after so many interrupted runs in turn: it may be what kills them."""
TRY_AGAIN_S = (600.0, 3600.0, 86400.0)
"""Waiting times before a watch retries a failed slide; after the last one only if it changes."""
STALE_S = 30 * 86_400
"""Age at which the checkpoint of an abandoned slide is removed."""
OF_REGIONS = ".regions.csv"
"""Ending of the output that a slide without regions cannot have."""
UNDER_WAY = ".under-way"
"""Subfolder in which the outputs of a slide are written; they are moved once all are complete."""
TAKEN = ("summary", "index")
"""Names of the tables beside the outputs, which no slide may take."""


def records_in(folder: Path, complain: Callable[[str], None]) -> Iterator[Record]:
    """Yield the records of an output folder; `complain` is told of each that cannot be read."""
    for path in sorted((folder / RECORDS).glob("*.json")):
        if path.name.startswith("."):
            continue
        try:
            record = Record.from_json(path.read_bytes())
            if record.name != path.stem:
                raise GlioError(f"is the record of {record.name}")
        except (OSError, GlioError) as error:
            complain(f"{path}: left out, {error}")
            continue
        yield record


class Ledger:
    """The records of an output folder; only one process at a time may change them.

    Parameters
    ----------
    folder : Path
        The output folder, which exists.
    made_with : dict
        What a result depends on besides the slide, as plain JSON values.
    suffixes : tuple of str
        Suffixes of the requested outputs.
    complain : callable
        Called with one line for each record that cannot be read.
    hides_names : bool
        Call slides by a hash, and keep no path.

    Raises
    ------
    GlioError
        The folder cannot be written, or its records call slides in the other way.
    """

    def __init__(
        self,
        folder: Path,
        made_with: dict[str, Any],
        suffixes: tuple[str, ...],
        complain: Callable[[str], None] = lambda line: None,
        *,
        hides_names: bool = False,
    ) -> None:
        self.folder = folder
        self.made_with = made_with
        self.suffixes = suffixes
        self.hides_names = hides_names
        self._records: dict[str, Record] = {}
        self._by_slide: dict[str, str] = {}
        self._by_fingerprint: dict[str, list[str]] = {}
        self._taken_back: set[str] = set()
        records = folder / RECORDS
        try:
            records.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(records, error) from error
        self.tidy()
        for path in records.glob(".*.json"):  # half-written when the process was killed
            with suppress(OSError):  # harmless if it stays
                path.unlink(missing_ok=True)
        for record in records_in(folder, complain):
            if is_hidden(record.slide) != hides_names:
                raise self._other_names()
            self._keep(record)

    def __iter__(self) -> Iterator[Record]:
        """Yield the records by name."""
        return iter(sorted(self._records.values(), key=lambda record: record.name.lower()))

    def _keep(self, record: Record) -> None:
        before = self._records.get(record.name)
        if before is not None:
            self._forget(before)
        if record.made_with == self.made_with:
            record = replace(
                record, made_with=self.made_with
            )  # saves memory: thousands share one dict
        self._records[record.name] = record
        self._by_slide[record.slide] = record.name
        if record.fingerprint:
            self._by_fingerprint.setdefault(record.fingerprint, []).append(record.name)

    def _forget(self, record: Record) -> None:
        del self._records[record.name]
        if self._by_slide.get(record.slide) == record.name:
            del self._by_slide[record.slide]
        if record.fingerprint:
            names = self._by_fingerprint[record.fingerprint]
            names.remove(record.name)
            if not names:
                del self._by_fingerprint[record.fingerprint]

    def _write(self, record: Record) -> Record:
        with replacing(self._path(record.name)) as partial:
            partial.write_text(record.to_json(), encoding="ascii", newline="\n")
        self._keep(record)
        return record

    def _path(self, name: str) -> Path:
        return self.folder / RECORDS / f"{name}.json"

    def _other_names(self) -> UsageError:
        called, other = ("file", "hash") if self.hides_names else ("hash", "file")
        return UsageError(
            f"{self.folder}: its maps are called by {called}; name another --out-dir for "
            f"--names {other}"
        )

    def _key(self, slide: Path) -> str:
        """Return what stands for a slide in its record."""
        return token_of(slide) if self.hides_names else str(slide)

    def of(self, slide: Path) -> Record | None:
        """Return the record of the slide at a path, or None."""
        name = self._by_slide.get(self._key(slide))
        return None if name is None else self._records[name]

    def settled(
        self,
        slide: Path,
        *,
        retry: bool,
        under_way: Collection[str] = (),
        made_with: dict[str, Any] | None = None,
        name: str = "",
    ) -> Record | None:
        """Return the record of a slide that need not be measured now, or None.

        `made_with` and `name` are those of this slide, where it has its own.

        With `retry` every failed slide is due again at once, otherwise only after a while.
        A slide that was moved but kept its file name is still the same slide.
        `under_way` names the records of slides that are being measured.
        """
        self._taken_back.discard(self._key(slide))  # it is being handled now
        try:
            stamp = stamp_of(slide)
            record = self.of(slide)
            if record is not None and record.name in under_way:
                return record
            if record is None or record.stamp is None or record.stamp != stamp:
                record = self._same_slide(slide, stamp, fingerprint_of(slide))
        except OSError:
            return None  # its run will report the reason
        wanted = self.made_with if made_with is None else made_with
        if record is None or record.made_with != wanted or not _is_called(record, name):
            return None
        if record.state == "done":
            return record if self._has_outputs(record) else None
        if record.state == "started":
            return record if record.name in under_way else None
        if retry:
            return None
        return None if self._try_again(record) else record

    def _same_slide(self, slide: Path, stamp: Stamp, fingerprint: str) -> Record | None:
        for name in self._by_fingerprint.get(fingerprint, ()):
            record = self._records[name]
            if (
                (record.path is None or record.path.name == slide.name)
                and record.stamp is not None
                and record.stamp.near(stamp)
            ):
                return record
        return None

    def _has_outputs(self, record: Record) -> bool:
        wanted = {record.name + suffix for suffix in self.suffixes}
        return wanted <= set(record.outputs) and all(
            (self.folder / output).is_file() for output in record.outputs
        )

    def _try_again(self, record: Record) -> bool:
        if record.tries > len(TRY_AGAIN_S):
            return False
        since = _now() - datetime.fromisoformat(record.changed_at)
        return since >= timedelta(seconds=TRY_AGAIN_S[record.tries - 1])

    def due_again(self, slide: Path) -> bool:
        """Return whether a watch should try a slide again.

        Either it failed long enough ago, or it could not be reached and may be back by now.
        """
        if self._key(slide) in self._taken_back:
            return True
        record = self.of(slide)
        return record is not None and record.state == "failed" and self._try_again(record)

    def interrupted_runs(self, slide: Path) -> int:
        """Return how many runs of a slide in turn were interrupted."""
        record = self.of(slide)
        return record.tries if record is not None and record.state == "started" else 0

    def start(
        self, slide: Path, made_with: dict[str, Any] | None = None, name: str = ""
    ) -> tuple[Record, Record | None]:
        """Record that a slide is being measured; return its new record and any previous one.

        `made_with` and `name` are those of this slide, where it has its own. The outputs of a
        slide that is called otherwise from now on stay, but are no longer listed; so does its table
        of regions once it has none.
        """
        wanted_name, before = name, self.of(slide)
        try:
            stamp, fingerprint = stamp_of(slide), fingerprint_of(slide)
        except OSError:
            stamp, fingerprint = None, ""
        if before is None and stamp is not None:
            before = self._same_slide(slide, stamp, fingerprint)
        if before is not None and not _is_called(before, wanted_name):
            self._delete(before)
            before = None
        if before is not None:
            name = before.name
        else:
            own_name = self._own_name(slide, fingerprint)
            name = self._free_name(wanted_name or own_name, slide, fingerprint)
        unchanged = before is not None and before.fingerprint == fingerprint
        tries = before.tries if before is not None and unchanged and before.state != "done" else 0
        alike = [n for n in self._by_fingerprint.get(fingerprint, ()) if n != name]
        same = (n for n in alike if self._is_same(slide, self._records[n]))
        made_with = self.made_with if made_with is None else made_with
        earlier = () if before is None else before.outputs
        if made_with.get("settings", {}).get("regions") is None:  # a table of none cannot be made
            earlier = tuple(output for output in earlier if not output.endswith(OF_REGIONS))
        suffixes = tuple(
            dict.fromkeys((*self.suffixes, *(output[len(name) :] for output in earlier)))
        )
        record = Record(
            name,
            self._key(slide),
            stamp,
            fingerprint,
            made_with,
            "started",
            tries + 1,
            _stamped(),
            tuple(name + suffix for suffix in suffixes),
            same_as=next(same, ""),
        )
        self._clear(name)
        try:
            self._work_folder(name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        return self._write(record), before

    def _own_name(self, slide: Path, fingerprint: str) -> str:
        """Return what the outputs of a slide are called where nobody says."""
        if not self.hides_names:
            return title(slide)
        return (fingerprint or self._key(slide).removeprefix(HIDDEN))[:DIGITS]

    def _is_same(self, slide: Path, record: Record) -> bool:
        return record.path is not None and same_content(slide, record.path)

    def _work_folder(self, name: str) -> Path:
        return self.folder / UNDER_WAY / name

    def tidy(self) -> None:
        """Delete unpublished outputs; keep the checkpoints of interrupted runs."""
        parent = self.folder / UNDER_WAY
        with suppress(OSError):
            for work_folder in list(parent.iterdir()):
                if time.time() - work_folder.stat().st_mtime > STALE_S:
                    shutil.rmtree(work_folder, ignore_errors=True)
                else:
                    self._clear(work_folder.name)
            parent.rmdir()

    def _clear(self, name: str) -> None:
        """Delete the unfinished outputs of a slide; its checkpoint, in a subfolder, stays."""
        work_folder = self._work_folder(name)
        with suppress(OSError):
            for file in list(work_folder.iterdir()):
                if file.is_file():
                    file.unlink()
            work_folder.rmdir()

    def made_at(self, record: Record) -> list[Path]:
        """Return the temporary paths at which the outputs of a slide are written."""
        return [self._work_folder(record.name) / output for output in record.outputs]

    def publish(self, record: Record) -> None:
        """Move the complete outputs of a slide to their final places: all of them, or none.

        Their hashes are kept beside the record, as `sha256sum -c records/NAME.sha256` takes them in
        the output folder.

        Raises
        ------
        GlioError
            An earlier output cannot be replaced: it may be open in a program.
        """
        made = self.made_at(record)
        sums = "".join(f"{sha256_of_file(file)}  {file.name}\n" for file in made)
        move_all(made, [self.folder / file.name for file in made])
        with replacing(self.folder / RECORDS / f"{record.name}{CHECKSUMS}") as partial:
            partial.write_text(sums, encoding="utf-8", newline="\n")

    def _free_name(self, wanted: str, slide: Path, fingerprint: str) -> str:
        plain = name = file_name(wanted)
        content = hashlib.sha256(f"{fingerprint} {slide}".encode(errors="replace")).hexdigest()
        taken = {*TAKEN, *(other.lower() for other in self._records)}
        digits = 6
        while name.lower() in taken:
            name, digits = f"{plain}-{content[:digits]}", digits + 1
        return name

    def done(
        self,
        record: Record,
        warnings: tuple[str, ...],
        figures: dict[str, Any],
        pace: dict[str, Any],
    ) -> Record:
        """Record that a slide is measured and its outputs are published."""
        record = self._write(
            replace(
                record,
                state="done",
                changed_at=_stamped(),
                warnings=warnings,
                figures=figures,
                pace=pace,
            )
        )
        # removes the checkpoint, but only after the record has been written
        shutil.rmtree(self._work_folder(record.name), ignore_errors=True)
        return record

    def failed(self, record: Record, reason: str, trace: str = "") -> Record:
        """Record why a slide could not be measured."""
        self._clear(record.name)
        return self._write(
            replace(
                record,
                state="failed",
                changed_at=_stamped(),
                reason=reason,
                trace=trace,
                outputs=tuple(o for o in record.outputs if (self.folder / o).is_file()),
            )
        )

    def forget_vanished(self) -> None:
        """Delete the "started" records of slides that no longer exist."""
        for record in list(self):
            if record.state != "started" or record.path is None or is_there(record.path):
                continue
            if any((self.folder / output).is_file() for output in record.outputs):
                self.failed(record, f"{record.slide}: vanished before it was measured again")
            else:
                self.take_back(record, None)

    def take_back(self, record: Record, before: Record | None) -> None:
        """Undo the start of a slide when the user stops the run; it does not count as a try."""
        self._clear(record.name)
        self._taken_back.add(record.slide)
        if before is not None:
            self._write(before)
            return
        self._delete(record)

    def _delete(self, record: Record) -> None:
        self._forget(record)
        with suppress(OSError):  # it stays as it is, as after a kill
            self._path(record.name).unlink(missing_ok=True)


def _is_called(record: Record, name: str) -> bool:
    """Tell whether a record has a wanted name, or that with a suffix as the name was taken."""
    return not name or file_name(name) in (record.name, record.name.rpartition("-")[0])


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _stamped() -> str:
    return _now().isoformat(timespec="seconds")
