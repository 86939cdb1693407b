"""Show what was measured in an output folder: its index, from which each slide opens."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from functools import partial
from pathlib import Path

from gliorun.batch import summary
from gliorun.batch.ledger import RECORDS, records_in
from gliorun.errors import GlioError
from gliorun.hashname import is_hidden, token_of
from gliorun.model.engine import Engine
from gliorun.plan import Plan, open_engine
from gliorun.reading.files import absolute, is_folder
from gliorun.sliderecord import Record
from gliorun.viewer import fields
from gliorun.viewer.earlier import Measured
from gliorun.viewer.fields import Fields
from gliorun.viewer.server import ALONE, OWN_SCRIPTS, Page, Served, Shown, serve
from gliorun.viewer.session import Session

MOST_OPEN = 2
"""Most slides that are open at once, as each has its caches."""
PAGE = "text/html; charset=utf-8"
TYPES = {
    ".html": PAGE,
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
}
"""Outputs that a browser shows; the others are not served."""


def view(slide: str | None, out_dir: Path, plan: Plan, page: Page) -> bool:
    """Show a folder of maps, or one slide with its map there, until Ctrl-C.

    Raises
    ------
    GlioError
        There are no maps, the slide cannot be used, or the port is taken.
    """
    folder = absolute(out_dir)
    if not is_folder(folder / RECORDS):
        raise GlioError(f"{out_dir}: holds no maps; gliorun scans/ --out-dir {out_dir} makes some")
    records = sorted(records_in(folder, page.complain), key=lambda record: record.name.lower())
    plan = replace(plan, outputs=[])
    if slide is not None:
        path = absolute(slide)
        records = [record for record in records if record.slide in (str(path), token_of(path))]
        if not records:
            raise GlioError(f"{slide}: has no map in {out_dir}; leave --out-dir out to measure it")
        records = [replace(record, slide=str(path)) for record in records]
    done = [record for record in records if record.state == "done"]
    gallery = Gallery(folder, done, plan, open_engine(plan), page)
    try:
        serve(gallery, page, {} if slide is not None else gallery.served(records))
    finally:
        gallery.close()
    return True


class Gallery:
    """The measured slides of a folder, of which the last few stay open."""

    def __init__(
        self, folder: Path, records: list[Record], plan: Plan, engine: Engine, page: Page
    ) -> None:
        self._folder = folder
        self._records = records
        self._plan = plan
        self._engine = engine
        self._page = page
        self._open: OrderedDict[int, Shown] = OrderedDict()

    def opened(self, number: int) -> Shown | None:
        """Return a slide that is open."""
        return self._open.get(number)

    def open(self, number: int) -> Shown:
        """Open a slide, and close one that no page shows; called by one thread.

        Raises
        ------
        GlioError
            There is none, it cannot be opened, or too many are looked at.
        """
        if number in self._open:
            return self._open[number]
        if number >= len(self._records):
            raise GlioError("there is no such slide")
        record = self._records[number]
        if is_hidden(record.slide):
            raise GlioError(
                f"{record.name}: its map does not name its slide; "
                f"gliorun SLIDE --out-dir {self._folder} --view shows it"
            )
        self._make_room()
        measured = Measured(self._folder, record)
        plan = measured.plan(self._plan)
        session = Session(
            Path(record.slide), plan, self._engine, measured.find, self._page.complain
        )
        marked = Fields(self._folder / f"{record.name}{fields.SUFFIX}", session.surveyed)
        self._open[number] = session, marked
        return session, marked

    def _make_room(self) -> None:
        for number, (session, _) in list(self._open.items()):
            if len(self._open) < MOST_OPEN:
                return
            if not session.pages:
                del self._open[number]
                session.close()
        if len(self._open) >= MOST_OPEN:
            raise GlioError(f"{MOST_OPEN} slides are looked at; close one of their pages first")

    def close(self) -> None:
        """Close all slides."""
        for session, _ in self._open.values():
            session.close()

    def served(self, records: list[Record]) -> dict[str, Served]:
        """Return the index, and the outputs that it names, by their names."""
        views = {record.name: f"view/{number}/" for number, record in enumerate(self._records)}
        index = partial(summary.index_of, records, views, tuple(TYPES))
        served = {"": Served(PAGE, lambda: index().encode(), OWN_SCRIPTS)}
        outputs = {output for record in self._records for output in record.outputs}
        for name in (*outputs, summary.TABLE):
            content_type = TYPES.get(Path(name).suffix)
            if content_type is not None:
                policy = OWN_SCRIPTS + ALONE
                served[name] = Served(content_type, (self._folder / name).read_bytes, policy)
        return served
