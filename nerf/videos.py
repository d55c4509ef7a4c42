"""Write pictures as an MP4."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import cv2

from utils.images import read_rgb

log = logging.getLogger("specula")


def write_video(path: Path, pictures: Sequence[Path], fps: int) -> bool:
    """Write an MP4 of image files of one size; a build of OpenCV without the codec says so and goes on.

    Returns:
        Whether there is a video.
    """
    height, width = read_rgb(pictures[0]).shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    if not writer.isOpened():
        log.info("%s is left out: this OpenCV cannot write MP4", path.name)
        return False
    for picture in pictures:
        writer.write(cv2.cvtColor(read_rgb(picture), cv2.COLOR_RGB2BGR))
    writer.release()
    return True
