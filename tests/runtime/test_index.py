"""The index of a folder is usable with hundreds of slides, in a browser and on paper."""

from __future__ import annotations

import html
import re
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

import batches
from browsers import TOO_DARK, WIDER_THAN_ITS_PLACE
from gliorun.batch import again, summary
from gliorun.batch.again import Again
from gliorun.sliderecord import Record

SLIDES, FAILED = 500, 12
BROKEN = """[...document.querySelectorAll("th .dt-column-title")]
    .filter(e => !e.innerText.trim().includes(" ")
        && e.getBoundingClientRect().height > 2 * parseFloat(getComputedStyle(e).fontSize))
    .map(e => e.innerText)"""
"""Gives the headings of one word that stand on several lines."""
AGAIN = Again(("--out-dir", "/maps of 2026", "--cell-px", "120"))


def record(number: int, slide: str, **more: object) -> Record:
    values = {
        "state": "done",
        "outputs": tuple(f"s{number:03d}.{suffix}" for suffix in ("png", "html", "thumb.jpg")),
        "warnings": ("a doubt",) if number % 100 == 7 else (),
        "figures": {
            "density": {"mean": (number * 37 % SLIDES) / 1000, "class_shares": {"0–2 %": 1.0}},
            "tiles": {"measured": number},
        },
    }
    at = f"2026-11-{1 + number % 28:02d}T10:00:00+00:00"
    return Record(f"s{number:03d}", slide, None, "", {}, tries=1, changed_at=at, **values | more)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Return the index of 500 slides and 12 that failed."""
    folder = tmp_path_factory.mktemp("maps")
    done = [record(number, f"/scans/s{number:03d}.svs") for number in range(SLIDES)]
    thumbnail = folder / "s000.thumb.jpg"
    Image.fromarray(np.full((80, 200, 3), 200, np.uint8)).save(thumbnail)
    for one in done[1:]:
        shutil.copy(thumbnail, folder / f"{one.name}.thumb.jpg")
    failed = []
    for number in range(900, 900 + FAILED):
        slide = folder / f"slide {number}.svs"
        slide.touch()
        failed.append(record(number, str(slide), state="failed", reason="no tissue", outputs=()))
    summary.write(folder, [*done, *failed], AGAIN)
    return folder / "index.html"


def test_a_command_is_quoted_for_the_shell_of_the_system(monkeypatch):
    assert Again().command(["/a.svs"]) == ""
    words = "gliorun '/a b.svs' --out-dir '/maps of 2026' --cell-px 120"
    monkeypatch.setattr(again.os, "name", "posix")
    assert AGAIN.command(["/a b.svs"]) == words
    monkeypatch.setattr(again.os, "name", "nt")
    assert AGAIN.command(["/a b.svs"]) == words.replace("'", '"')


@pytest.fixture
def page(browser, index):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.complaints = []
    page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda r: page.complaints.append(r.url) if "http" in r.url else None)
    page.goto(index.as_uri())
    page.wait_for_selector("body[data-ready]")
    yield page
    page.close()


def names(page) -> list[str]:
    return page.locator("table.done .name").all_inner_texts()


@pytest.mark.release
def test_slides_are_sorted_searched_and_filtered(page):
    assert page.complaints == []
    assert names(page) == [f"s{number:03d}" for number in range(25)]
    page.locator("table.done th").nth(2).locator(".dtcc-button").first.click()  # densest first
    page.wait_for_function("document.querySelector('table.done .name').innerText != 's000'")
    means = page.locator("table.done tbody td:nth-child(3)").all_inner_texts()
    assert [float(mean.split()[0]) for mean in means] == pytest.approx(49.9 - np.arange(25) / 10)
    page.locator(".dt-search input").last.fill("a doubt")
    assert sorted(names(page)) == ["s007", "s107", "s207", "s307", "s407"]
    page.locator(".dt-search input").last.fill("s1")  # the hundreds of s1
    page.locator(".dt-length select").last.select_option("-1")
    assert len(names(page)) == 100
    assert page.complaints == []


@pytest.mark.release
def test_what_failed_stands_on_top_with_the_command_that_tries_again(page, index):
    first = page.locator("table").first
    assert first.get_attribute("class").startswith("trouble")
    row = first.locator("tbody tr").first
    slide = index.parent / "slide 900.svs"
    assert row.locator("code").inner_text() == AGAIN.command([str(slide)])
    every = page.locator("p code").inner_text()
    assert every.count(".svs'") == FAILED


@pytest.mark.release
def test_a_thumbnail_leads_to_the_report(page, index):
    links = page.locator("table.done td:first-child a")
    assert links.first.get_attribute("href") == "s000.html"
    assert page.locator("table.done img").first.evaluate("image => image.naturalWidth") == 200


@pytest.mark.release
@pytest.mark.parametrize("width", [420, 1000, 1440])
def test_no_window_is_too_narrow_nor_too_dark(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDER_THAN_ITS_PLACE) == []
    assert page.evaluate(TOO_DARK) == []
    assert page.evaluate(BROKEN) == []


def test_a_slide_without_nuclei_has_0_of_them_and_one_uncounted_no_number(tmp_path):
    figures = {"density": {"mean": 0.0, "class_shares": {"0–2 %": 1.0}}, "tiles": {"measured": 3}}
    counted = {**figures, "nuclei": {"nuclei_per_mm2": 0.0}}
    of_both = [record(1, "/a.svs", figures=figures), record(2, "/b.svs", figures=counted)]
    summary.write(tmp_path, of_both, AGAIN)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"([\d,]+) nuclei/mm²", text) == ["0"]


def test_the_index_tells_the_command_that_tries_a_slide_again(tmp_path):
    """What was typed in one folder works as it stands from any other."""
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "bad.svs").write_bytes(b"no slide")
    done = batches.type_in_at(
        tmp_path, "scans", "--out-dir", "maps", "--format", "csv", "--any-quality", "--quiet"
    )
    assert done.returncode == 1
    page = html.unescape((tmp_path / "maps" / "index.html").read_text(encoding="utf-8"))
    (line,) = re.findall(r"<code>(gliorun [^<]*)</code>", page)
    words = shlex.split(line)
    assert words[:2] == ["gliorun", str(tmp_path / "scans" / "bad.svs")]
    assert words[2:] == ["--out-dir", str(tmp_path / "maps"), "--format", "csv", "--any-quality"]
    batches.tiny(tmp_path / "scans" / "bad.svs")
    assert batches.type_in(*words[1:]).returncode == 0
    assert (tmp_path / "maps" / "bad.csv").is_file()
