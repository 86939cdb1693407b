"""`gliorun --view` as it is typed: what it refuses, what it says, and that it ends."""

from __future__ import annotations

import shlex
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import viewing
from gliorun.batch.ledger import records_in
from gliorun.cli import app
from gliorun.errors import GlioError
from gliorun.hashname import token_of
from gliorun.viewer import server
from gliorun.viewer.folder import Gallery
from gliorun.viewer.server import Page
from guides import marked


def refused(*words: object) -> str:
    """Type a command that is wrong usage; return its line."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code != 0
    return str(done.exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--view",), "--view shows one slide, --demo, or an --out-dir"),
        (("a.svs", "b.svs", "--view"), "--view shows one slide, --demo, or an --out-dir"),
        (("a.svs", "--demo", "--view"), "--view shows one slide, --demo, or an --out-dir"),
        (("--out-dir", "m", "--out", "a.csv", "--view"), "writes no other outputs"),
        (("scans", "--out-dir", "m", "--view", "--watch"), "--watch is for measuring many"),
        (("a.svs", "--out", "a.csv", "--view-port", "80"), "--view-port goes with --view"),
        (("gone.svs", "--view"), "gone.svs: no such file"),
        (("--out-dir", "gone", "--view"), "gone: holds no maps"),
        (("gone.svs", "--out", "a.nope", "--view"), "a.nope: unknown suffix"),
    ],
)
def test_what_makes_no_sense_is_one_line(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused(*words)
    assert list(tmp_path.iterdir()) == []


def test_without_a_screen_no_browser_is_looked_for(monkeypatch):
    monkeypatch.setattr(server.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not server.has_browser()
    monkeypatch.setenv("DISPLAY", ":0")
    assert server.has_browser()


@pytest.mark.parametrize("name", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.release)])
def test_an_interrupt_ends_it_and_leaves_nothing_behind(tmp_path, small_slide, name):
    with viewing.typed(tmp_path, str(small_slide.path), "--view") as (shown, url):
        assert viewing.fetched(url, "view/0/")[0] == 200
        shown.send_signal(getattr(signal, name))
        out, err = shown.communicate(timeout=viewing.PATIENCE_S)
        assert (shown.returncode, out, err) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def maps(tmp_path_factory, small_slide) -> Path:
    """A folder with scans/a.svs, slide.svs and the maps of the scans."""
    place = tmp_path_factory.mktemp("place")
    (place / "scans").mkdir()
    for name in ("scans/a.svs", "slide.svs"):
        (place / name).write_bytes(small_slide.path.read_bytes())
    words = ["scans", "--out-dir", "maps", "--hot-spot-mm2", "0.01", "--quiet"]
    subprocess.run([*viewing.RUN, *words], cwd=place, check=True, capture_output=True, timeout=300)
    return place


def test_a_slide_of_a_folder_opens_with_its_map_and_is_not_measured_again(maps, engine):
    records = list(records_in(maps / "maps", print))
    page = Page("127.0.0.1", 0, print, print)
    gallery = Gallery(maps / "maps", records, viewing.plan_of(), engine, page)
    try:
        session, fields = gallery.open(0)
        viewing.wait_for(lambda: session.is_done)
        assert session.progress.words == "measured before: a.csv"
        assert session.run.density.known_tiles() == 0
        with viewing.session_of(maps / "scans/a.svs", viewing.plan_of(), engine) as anew:
            assert session.cells() == anew.cells()
            for spot, of_anew in zip(
                session.progress.hot_spots, anew.progress.hot_spots, strict=True
            ):
                assert spot == of_anew | {"nuclei_per_mm2": None}
            assert session.progress.figures == anew.progress.figures
        assert fields.path == maps / "maps" / "a.fields.geojson"
        assert gallery.opened(0) == (session, fields)
        with pytest.raises(GlioError, match="no such slide"):
            gallery.open(1)
    finally:
        gallery.close()


def test_the_index_leads_to_the_slides_and_only_outputs_are_served(maps, engine):
    records = list(records_in(maps / "maps", print))
    page = Page("127.0.0.1", 0, print, print)
    gallery = Gallery(maps / "maps", records, viewing.plan_of(), engine, page)
    served = viewing.Served(gallery, gallery.served(records))
    (maps / "maps" / "secret.csv").write_text("secret")
    try:
        answer, body = served.get("")
        assert answer.status == 200
        assert b'href="view/0/"' in body
        for name, sandboxed in (("a.html", True), ("a.png", True), ("summary.csv", True)):
            answer, body = served.get(name)
            assert (answer.status, bool(body)) == (200, True)
            assert ("sandbox" in answer.headers["Content-Security-Policy"]) == sandboxed
        for name in ("secret.csv", "records/a.json", ".lock", "index.html", "../slide.svs"):
            answer, body = served.get(name)
            assert answer.status == 404
            assert b"secret" not in body
    finally:
        served.close()
        gallery.close()


def test_a_slide_that_was_measured_otherwise_is_not_shown_as_if_it_had_been_so(maps, engine):
    (record,) = records_in(maps / "maps", print)
    page = Page("127.0.0.1", 0, print, print)

    def opened(**changes: object) -> Gallery:
        values = record.made_with["settings"] | changes.pop("settings", {})
        made_with = record.made_with | {"settings": values} | changes
        other = replace(record, made_with=made_with)
        return Gallery(maps / "maps", [other], viewing.plan_of(), engine, page)

    hidden = replace(record, slide=token_of(maps / "scans/a.svs"))
    with pytest.raises(GlioError, match=r"gliorun SLIDE --out-dir .* --view shows it"):
        Gallery(maps / "maps", [hidden], viewing.plan_of(), engine, page).open(0)
    for changes, said in (
        ({"model": "other"}, "measured with another model or version"),
        ({"gliorun": "0.0.1"}, "measured with another model or version"),
        ({"settings": {"tissue_mask": "ab" * 32}}, "--tissue-mask FILE --view shows it"),
        ({"settings": {"unheard": 1, "quality": 3}}, "measured by another version"),
    ):
        with pytest.raises(GlioError, match=said):
            opened(**changes).open(0)


@pytest.mark.release
@pytest.mark.parametrize("line", [*marked("view"), *marked("look")])
def test_what_the_guide_says_shows_a_page(maps, line):
    words = shlex.split(line)
    assert words.pop(0) == "gliorun"
    with viewing.typed(maps, *words) as (shown, url):
        assert viewing.fetched(url)[0] in (200, 302)
        assert viewing.fetched(url, "view/0/")[0] == 200
        shown.send_signal(signal.SIGINT)
        shown.communicate(timeout=viewing.PATIENCE_S)
        assert shown.returncode in (0, 130)  # stopped before its outputs were written
