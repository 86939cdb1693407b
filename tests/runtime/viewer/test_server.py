"""The page is served to this computer alone, and nothing but the page."""

from __future__ import annotations

import asyncio
import json

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

import viewing
from gliorun.errors import GlioError
from gliorun.viewer.server import PARTS, Server


@pytest.fixture(scope="module")
def session(small_slide, engine):
    with viewing.session_of(small_slide.path, viewing.plan_of(), engine) as session:
        yield session


@pytest.fixture
def served(session, tmp_path):
    with viewing.served(session, tmp_path) as served:
        yield served


SHOWN = ["view/0/", "view/0/overview.jpg", "view/0/0/1/1.jpg", "static/viewer.js"]


@pytest.mark.parametrize("path", SHOWN)
def test_what_a_page_needs_is_served_and_forbids_the_rest(served, path):
    answer, body = served.get(path)
    assert answer.status == 200
    assert body
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Server" not in answer.headers


def test_every_part_of_the_page_is_there(served):
    for name in PARTS:
        answer, body = served.get(f"static/{name}")
        assert (answer.status, bool(body)) == (200, True)
    answer, _ = served.get("")
    assert (answer.status, answer.headers["Location"]) == (302, "view/0/")


@pytest.mark.parametrize("path", SHOWN)
@pytest.mark.parametrize("token", ["", "x", "0" * 32, "%00", "..", "token"])
def test_nothing_is_served_without_the_token(served, path, token):
    for whole in (f"/{token}/{path}", f"/{path}", f"//{path}"):
        answer, body = served.get_whole(whole)
        assert (answer.status, body) == (404, b"nothing here")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "[::2]", "]", ""],
)
@pytest.mark.parametrize("path", SHOWN)
def test_another_name_of_this_computer_is_refused(served, path, host):
    """A page from elsewhere whose name has been bent to this computer sends its own name."""
    answer, body = served.get(path, Host=host)
    assert answer.status in (400, 404)
    assert b"<" not in body


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:8080", "[::1]:2"])
def test_this_computer_by_any_port_is_served_as_through_a_tunnel(served, host):
    assert served.get("view/0/", Host=host)[0].status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_request_of_another_page_is_refused(served, site):
    assert served.get("view/0/overview.jpg", Sec_Fetch_Site=site)[0].status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_pages_are_only_asked_for(served, method):
    assert served.get("view/0/", method)[0].status in (404, 405)


@pytest.mark.parametrize(
    "path",
    [
        "static/../../../pyproject.toml", "static/%2e%2e/__init__.py", "static/index.html",
        "view/0/label.jpg", "view/0/macro.jpg", "view/1/", "view/9999999999/", "view/-1/",
        "view/0/99/0/0.jpg", "view/0/0/999999999/0.jpg", "view/0/0/0/0.png", "view/0/../../x",
        "/etc/passwd", "view/0/C:/x", "files/a.csv", "view/0/0/0/0.jpg?x=/etc/passwd&y",
    ],
)  # fmt: skip
def test_no_address_leads_to_a_file(served, path):
    answer, body = served.get(path)
    is_picture = path.startswith("view/0/0/0/0.jpg")
    assert answer.status == (200 if is_picture else 404)
    assert b"root:" not in body
    assert b"[project]" not in body


def test_a_token_is_new_each_time(session):
    tokens = {Server(None, {}).token for _ in range(50)}
    assert len(tokens) == 50
    assert min(map(len, tokens)) >= 32


def test_a_port_that_is_taken_is_one_line(served):
    server = Server(None, {})
    with pytest.raises(GlioError, match=rf"127\.0\.0\.1:{served.port}: cannot listen there"):
        server.listen("127.0.0.1", served.port)


def talk(served, origin, *messages, count=3):
    """Return the first messages that a page with an origin is sent."""

    async def run():
        url = f"{served.url}view/0/messages".replace("http", "ws", 1)
        socket = await websocket_connect(HTTPRequest(url, headers={"Origin": origin}))
        for message in messages:
            await socket.write_message(message)
        came = []
        for _ in range(count):
            message = await asyncio.wait_for(socket.read_message(), 30)
            came.append(message)
            if message is None:
                break
        socket.close()
        return came

    return asyncio.run(run())


def test_a_page_is_told_the_map_and_how_far_it_is(served):
    fields, cells, progress = talk(served, served.url)
    assert json.loads(fields) == {"kind": "fields", "boxes": [], "fault": ""}
    assert viewing.header_of(cells)["kind"] == "map"
    told = json.loads(progress)
    assert (told["stage"], told["outlines"]) == ("finished", True)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://"])
def test_messages_of_another_page_are_refused(served, origin):
    with pytest.raises(HTTPClientError, match="403"):
        talk(served, origin)


@pytest.mark.parametrize(
    "message",
    [
        "", "x", "[]", "{}", '{"kind": "tiles"}', '{"kind": "tiles", "places": [[1]]}',
        '{"kind": "tiles", "places": [["a", 1]]}', '{"kind": "field", "x_l0": "a", "y_l0": 1}',
        '{"kind": "field", "x_l0": NaN, "y_l0": 1}', "\x00", "[" * 20000,
    ],
)  # fmt: skip
def test_a_message_without_sense_ends_the_connection_and_nothing_else(served, session, message):
    assert None in talk(served, served.url, message, count=6)
    viewing.wait_for(lambda: session.pages == 0)
    assert talk(served, served.url)


def test_a_field_far_off_the_slide_is_moved_onto_it(served, session, tmp_path):
    message = json.dumps({"kind": "field", "x_l0": 1e300, "y_l0": -5})
    came = talk(served, served.url, message, count=4)
    boxes = [json.loads(m)["boxes"] for m in came if isinstance(m, str) and "boxes" in m]
    (box,) = boxes[-1]
    width, height = session.surveyed.grid.size_l0
    assert box[0] >= 0
    assert box[1] == 0
    assert box[2] <= width
    assert box[3] <= height
