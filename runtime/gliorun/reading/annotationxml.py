"""Open the XML of a viewer's annotations, which anyone may have written."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from gliorun.errors import GlioError
from gliorun.reading.drawing import Ring, bytes_of, ring_of


def read_root(path: Path) -> Element:
    """Return the outermost element of an XML file.

    A file that defines entities could fill the memory, or name other files; it is refused.

    Raises
    ------
    GlioError
        The file is no XML, or defines entities.
    OSError
        It cannot be read.
    """
    with path.open("rb") as stream:
        content = bytes_of(path, stream.read)
    try:
        root: Element = parse(BytesIO(content), forbid_dtd=True).getroot()
    except DefusedXmlException as error:
        raise GlioError(
            f"{path}: has a document type or entities of its own, which no viewer writes; "
            "export it again"
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise GlioError(f"{path}: not XML, or cut short ({error}); export it again") from error
    return root


def _number(text: str) -> float:
    return float(text.replace(",", "."))


def corners_of(elements: list[Element], where: str) -> Ring:
    """Return the ring of the elements that hold its corners as X and Y.

    A program may have written the comma of its user's language instead of the point.

    Raises
    ------
    GlioError
        One has no number there.
    """
    try:
        corners = [
            (_number(corner.attrib["X"]), _number(corner.attrib["Y"])) for corner in elements
        ]
    except (KeyError, ValueError) as error:
        raise GlioError(f"{where}: a corner has no number X and Y ({error})") from error
    return ring_of(corners or [(0.0, 0.0)], where)
