"""Video and sound files in and out; face finding; crop geometry. PyAV is loaded when a file is first opened."""

from tfcodec.media.source import SourceClip, open_source
from tfcodec.media.writer import VideoWriter, write_video

__all__ = ["SourceClip", "VideoWriter", "open_source", "write_video"]
