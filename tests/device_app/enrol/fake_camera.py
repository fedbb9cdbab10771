"""What Chromium's fake camera shows: a film of one picture, a QR code, in YUV4MPEG2."""

from __future__ import annotations

from pathlib import Path

import segno

WIDTH, HEIGHT = 640, 480
FLAGS = ("--use-fake-device-for-media-stream", "--use-file-for-fake-video-capture={}")
_WHITE, _BLACK, _GREY = b"\xeb", b"\x10", b"\x80"


def film(path: Path, text: str) -> None:
    """Replaces the film: the browser opens the file whenever a page opens the camera."""
    code = segno.make(text, error="m", micro=False)
    scale = (HEIGHT - 40) // code.symbol_size(border=4)[0]
    rows = [b"".join((_BLACK if dark else _WHITE) * scale for dark in row) for row in code.matrix_iter(border=4)]
    side = len(rows) * scale
    left, above = (WIDTH - side) // 2, (HEIGHT - side) // 2
    picture = [_WHITE * WIDTH] * above
    for row in rows:
        picture += [_WHITE * left + row + _WHITE * (WIDTH - side - left)] * scale
    picture += [_WHITE * WIDTH] * (HEIGHT - len(picture))
    frame = b"FRAME\n" + b"".join(picture) + _GREY * (WIDTH * HEIGHT // 2)
    new = path.with_suffix(".new")
    new.write_bytes(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F10:1 Ip A1:1 C420jpeg\n".encode() + frame * 2)
    # A browser that still shows the former film keeps it.
    new.replace(path)
