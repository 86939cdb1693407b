"""Serve the page of a slide to this computer alone; the only module that imports Tornado.

Every address begins with a random token, and what is served is a fixed list: no address is ever
turned into the name of a file.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from gliorun import templates
from gliorun.errors import GlioError
from gliorun.viewer.fields import Fields
from gliorun.viewer.session import Session

T = TypeVar("T")
HERE = ("127.0.0.1", "localhost", "::1")
"""Names of this computer, by which alone it is spoken to."""
ANY = ("0.0.0.0", "::")
"""Every address of a container."""
TOKEN_BYTES = 24
READERS = 2
MOST_WANTED = 256
"""Most tiles that a page may want at once."""
TELL_S = 0.25
"""Seconds between two looks whether pages must be told something."""
MESSAGE_BYTES = 64 << 10
NOTHING_ELSE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a page of ours may load: its own script, style, pictures and messages."""
OWN_SCRIPTS = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'unsafe-inline'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""What the index and the reports may load: they carry all they need."""
ALONE = "; sandbox allow-scripts allow-popups"
"""A report runs apart from this address, whatever is in it."""
HEADERS = {
    "Cache-Control": "no-store",  # no slide stays behind in the browser's folder
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
SCRIPTS = "text/javascript; charset=utf-8"
TYPES = {".css": "text/css; charset=utf-8", ".js": SCRIPTS}
PARTS = ("viewer.css", "viewer.js", "view.js", "pyramid.js", "outlines.js", "drawing.js")


@dataclass(frozen=True, slots=True)
class Served:
    """Something that is served under a fixed name: its type, its bytes as they are asked for."""

    content_type: str
    read: Callable[[], bytes]
    policy: str = NOTHING_ELSE


Shown = tuple[Session, Fields]
"""An open slide, and the fields that are marked on it."""


class Slides(Protocol):
    """The slides that a server shows, by number."""

    def opened(self, number: int) -> Shown | None:
        """Return a slide that is open, at once."""

    def open(self, number: int) -> Shown:
        """Return a slide, and open it where it is not, which takes a moment.

        Raises
        ------
        GlioError
            There is none, or it cannot be opened.
        """


@dataclass(frozen=True, slots=True)
class Page:
    """Where pages are served, and who is told.

    `say` is called with the address of the first page, `complain` with faults and with what was
    written.
    """

    address: str
    port: int
    say: Callable[[str], None]
    complain: Callable[[str], None]


def serve(slides: Slides, page: Page, further: Mapping[str, Served] | None = None) -> None:
    """Serve slides until Ctrl-C; open the first page in the browser, or say where it is.

    `further` is served as well, by its name after the token; "" is the first page.

    Raises
    ------
    GlioError
        The port is taken.
    """
    with closing(Server(slides, further or {})) as server, suppress(KeyboardInterrupt):
        asyncio.run(_serve(server, page))


async def _serve(server: Server, page: Page) -> None:
    port = server.listen(page.address, page.port)
    host = HERE[0] if page.address in ANY else page.address
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/{server.token}/"
    is_open = has_browser() and webbrowser.open(url)
    page.say(f"{url}  {'' if is_open else 'open it in a browser; '}Ctrl-C ends")
    await asyncio.Event().wait()


def has_browser() -> bool:
    """Tell whether there is a screen that a browser could open on."""
    if os.name == "nt" or sys.platform == "darwin":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class TilesInSight(msgspec.Struct, frozen=True, tag_field="kind", tag="tiles"):
    """The tiles in sight, those in the middle first."""

    places: list[tuple[int, int]]


class Mark(msgspec.Struct, frozen=True, tag_field="kind", tag="field"):
    """A field to add to the laboratory's tiles, or to take back, by its middle in level-0 px."""

    x_l0: float
    y_l0: float


ASKED = msgspec.json.Decoder(TilesInSight | Mark)


class Server:
    """Serves slides at an address with a token until it is stopped."""

    def __init__(self, slides: Slides, further: Mapping[str, Served]) -> None:
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        self.slides = slides
        self.readers = ThreadPoolExecutor(READERS, thread_name_prefix="pictures")
        self.opening = ThreadPoolExecutor(1, thread_name_prefix="opening")
        parts = {name: templates.part(name) for name in PARTS}
        own = {
            f"static/{name}": Served(TYPES[name[name.rindex(".") :]], partial(bytes, content))
            for name, content in parts.items()
        }
        shared = {"server": self}
        slide = r"/([^/]+)/view/(\d{1,9})/"
        self._application = Application(
            [
                (slide, SlidePage, shared),
                (slide + r"overview\.jpg", Overview, shared),
                (slide + r"(\d{1,2})/(\d{1,9})/(\d{1,9})\.jpg", Picture, shared),
                (slide + "messages", Messages, shared),
                (r"/([^/]+)/(.*)", Fixed, shared | {"served": own | dict(further)}),
            ],
            default_handler_class=Nothing,
            log_function=lambda handler: None,  # an address holds the token
            websocket_max_message_size=MESSAGE_BYTES,
        )

    def listen(self, address: str, port: int) -> int:
        """Begin to listen at an address of this computer, and return the port.

        Raises
        ------
        GlioError
            The port is taken, or may not be used.
        """
        try:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listening = socket.create_server((address, port), family=family)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise GlioError(
                f"{address}:{port}: cannot listen there ({why}); pass another --view-port, or none"
            ) from error
        listening.setblocking(False)
        HTTPServer(self._application, max_body_size=MESSAGE_BYTES).add_socket(listening)
        return int(listening.getsockname()[1])

    def close(self) -> None:
        """End the threads that read pictures."""
        for pool in (self.readers, self.opening):
            pool.shutdown(wait=False, cancel_futures=True)

    async def shown(self, number: int) -> Shown:
        """Return a slide by its number; it is opened first where it is not.

        Raises
        ------
        GlioError
            It cannot be opened.
        """
        opened = self.slides.opened(number)
        return await within(self.opening, self.slides.open, number) if opened is None else opened

    def admits(self, token: str, host: str) -> bool:
        """Tell whether a request knows the token and speaks to this computer by its own name."""
        name = urlsplit(f"//{host}").hostname
        return name in HERE and hmac.compare_digest(token.encode(), self.token.encode())


class Guarded(RequestHandler):
    """A request that is refused unless it comes from a page of ours, or from the address bar."""

    def initialize(self, server: Server) -> None:
        self.server = server
        self.is_gone = False

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        for name, value in HEADERS.items():
            self.set_header(name, value)
        self.set_header("Content-Security-Policy", NOTHING_ELSE)

    def prepare(self) -> None:
        try:
            is_ours = self.server.admits(self.path_args[0], self.request.host)
        except ValueError:  # a Host that is none
            is_ours = False
        site = self.request.headers.get("Sec-Fetch-Site", "none")
        if not is_ours or site not in ("none", "same-origin"):
            self.refuse()
        elif self.request.method != "GET":
            self.refuse(405)

    def refuse(self, status: int = 404) -> None:
        """Answer that there is nothing here, and no more."""
        self.set_status(status)
        self.finish("nothing here")

    def on_connection_close(self) -> None:
        self.is_gone = True
        super().on_connection_close()

    async def session(self, number: str) -> Shown:
        """Return a slide by its number; it is opened first where it is not.

        Raises
        ------
        GlioError
            It cannot be opened.
        """
        return await self.server.shown(int(number))

    def write_error(self, status_code: int, **about: Any) -> None:
        self.finish("nothing here" if status_code < 500 else "this failed; see the terminal")


def within(pool: ThreadPoolExecutor, function: Callable[..., T], *args: Any) -> Awaitable[T]:
    """Run a function in a thread."""
    return asyncio.get_running_loop().run_in_executor(pool, function, *args)


class Nothing(RequestHandler):
    """The answer to everything else."""

    def set_default_headers(self) -> None:
        self.clear_header("Server")

    def prepare(self) -> None:
        self.set_status(404)
        self.finish("nothing here")


class Fixed(Guarded):
    """The scripts and styles of the page; of many slides the index and their outputs."""

    def initialize(self, server: Server, served: Mapping[str, Served]) -> None:  # type: ignore[override]
        super().initialize(server)
        self.served = served

    async def get(self, token: str, name: str) -> None:
        served = self.served.get(name)
        if served is None:
            if not name:
                self.redirect("view/0/")
                return
            self.refuse()
            return
        try:
            content = await within(self.server.readers, served.read)
        except OSError:  # it was there when the list was made
            self.refuse()
            return
        self.set_header("Content-Type", served.content_type)
        self.set_header("Content-Security-Policy", served.policy)
        self.finish(content)


class SlidePage(Guarded):
    """The page of a slide."""

    async def get(self, token: str, number: str) -> None:
        try:
            session, fields = await self.session(number)
        except GlioError as error:
            self.set_status(404)
            self.finish(templates.render("viewer.html", scene=None, fault=str(error)))
            return
        scene = session.scene | {"fields": fields.words, "annotate": fields.command}
        self.finish(templates.render("viewer.html", scene=scene, fault=""))


class Overview(Guarded):
    """The whole slide, small."""

    async def get(self, token: str, number: str) -> None:
        session, _ = await self.session(number)
        self.set_header("Content-Type", "image/jpeg")
        self.finish(session.pyramid.overview)


class Picture(Guarded):
    """A part of the slide at one of its zooms."""

    async def get(self, token: str, number: str, zoom: str, column: str, row: str) -> None:
        session, _ = await self.session(number)
        place = int(zoom), int(column), int(row)
        try:
            picture = await within(
                self.server.readers, session.pyramid.picture, *place, lambda: not self.is_gone
            )
        except GlioError as error:
            self.set_status(410)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(str(error))
            return
        if self.is_gone:
            return
        if picture is None:
            self.refuse()
            return
        self.set_header("Content-Type", "image/jpeg")
        self.finish(picture)


class Messages(WebSocketHandler):
    """What a page is told as it happens, and what it asks for."""

    def initialize(self, server: Server) -> None:
        self.server = server
        self.shown: Shown | None = None

    def check_origin(self, origin: str) -> bool:
        return urlsplit(origin).netloc == self.request.host

    async def prepare(self) -> None:
        try:
            is_ours = self.server.admits(self.path_args[0], self.request.host)
        except ValueError:
            is_ours = False
        if not is_ours:
            self.set_status(404)
            self.finish("nothing here")

    def get_compression_options(self) -> dict[str, Any]:
        return {"compression_level": 1, "mem_level": 5}

    async def open(self, token: str, number: str) -> None:
        try:
            self.shown = await self.server.shown(int(number))
        except GlioError as error:
            self.close(reason=str(error)[:100])
            return
        session, fields = self.shown
        session.pages += 1
        self.loop = asyncio.get_running_loop()
        self.telling = self.loop.create_task(self.tell(session))
        self.send(fields.packed())

    async def tell(self, session: Session) -> None:
        """Tell the page how far the map is, whenever that has changed."""
        told, cells = None, None
        while self.ws_connection is not None:
            segmenter = session.segmenter
            fault = segmenter.fault if segmenter is not None else ""
            state = session.version, segmenter is not None, fault
            if state != told:
                told = state
                now = await within(self.server.readers, session.cells)
                if now is not None and now is not cells:
                    cells = now
                    self.send(now)
                progress = asdict(session.progress)
                can_outline = segmenter is not None and not fault
                progress |= {"outlines": can_outline, "fault": fault}
                self.send(json.dumps({"kind": "progress", **progress}))
            await asyncio.sleep(TELL_S)

    def on_message(self, message: str | bytes) -> None:
        if self.shown is None:
            return
        session, fields = self.shown
        try:
            asked = ASKED.decode(message)
        except msgspec.MsgspecError:
            self.close(reason="not a message of this page")
            return
        if isinstance(asked, TilesInSight):
            if session.segmenter is not None:
                session.segmenter.ask(self, asked.places[:MOST_WANTED], self.deliver)
        else:
            self.send(fields.toggled(asked.x_l0, asked.y_l0))

    def deliver(self, packed: bytes) -> None:
        """Send a tile from any thread."""
        try:
            self.loop.call_soon_threadsafe(self.send, packed)
        except RuntimeError:  # the server has ended
            pass

    def send(self, message: str | bytes) -> None:
        """Send a message, unless the page has been closed."""
        try:
            self.write_message(message, binary=isinstance(message, bytes))
        except WebSocketClosedError:
            pass

    def on_close(self) -> None:
        if self.shown is None:
            return
        session, _ = self.shown
        session.pages -= 1
        self.telling.cancel()
        if session.segmenter is not None:
            session.segmenter.forget(self)
