"""Raw pixels as PNG (ISO/IEC 15948): eight bits, RGB, no filter, the same bytes for the same pixels."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray


def png(pixels: NDArray[np.uint8]) -> bytes:
    """The file of an image (height, width, 3), red first."""
    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines, 9)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def inline(pixels: NDArray[np.uint8]) -> str:
    """The image as a ``data:`` address, which a page can show without asking for a file."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()
