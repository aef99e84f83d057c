"""Reads cines that are a video stream: MPEG-2, H.264, H.265.

The decoder, OpenCV's FFmpeg, is an extra. PyAV could decode them too, but its wheels contain x264
and x265, which are GPL.
"""

import functools
import importlib.util
import os
import re
import tempfile
from typing import Any

import numpy as np

# MPEG-2 transport, program and elementary stream, bare H.264 and H.265, MP4. FFmpeg would read
# more, such as playlists, which name other files.
_STARTS = re.compile(rb"\x47|\x00\x00\x01[\xb3\xba]|\x00\x00(\x00)?\x01|....ftyp", re.DOTALL)


@functools.cache
def is_available() -> bool:
    """Tells whether the extra is installed."""
    return importlib.util.find_spec("cv2") is not None


class Video:
    """A video stream; read its frames in ascending order: going back starts it anew."""

    def __init__(self, content: bytes, rows: int, columns: int) -> None:
        """Opens the stream; ValueError if it is no video, or of another size."""
        # OpenCV reads these at import. FFmpeg would report every damaged macroblock.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
        import cv2

        if not _STARTS.match(content):
            raise ValueError("no video stream")
        self._content, self._size = content, (rows, columns)
        self._cv2: Any = cv2
        self._capture, self._next = self._start(), 0

    def frame(self, index: int) -> np.ndarray:
        """Decodes a frame, numbered from 0, as (H, W, 3) uint8 RGB; ValueError if there is none."""
        if index < self._next:
            self._capture, self._next = self._start(), 0
        while self._next < index:
            if not self._capture.grab():
                raise ValueError("the stream ends before this frame")
            self._next += 1
        is_there, frame = self._capture.read()
        self._next += 1
        if not is_there or frame.shape != (*self._size, 3):
            raise ValueError("no such frame, or of another size")
        return np.ascontiguousarray(frame[..., ::-1])

    def _start(self) -> Any:
        cv2 = self._cv2
        # A file without a name, because OpenCV 5.0 crashes on some damaged streams in memory.
        with tempfile.TemporaryFile() as file:
            file.write(self._content)
            file.flush()
            place = f"/dev/fd/{file.fileno()}"
            capture = cv2.VideoCapture(place, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # as Rows and Columns have it
        sides = (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
        if not capture.isOpened() or tuple(map(capture.get, sides)) != self._size:
            raise ValueError("no video stream, or of another size")
        return capture
