"""Every error that tfcodec raises on purpose.

Everything derives from :class:`TfcodecError`, so ``except tfcodec.TfcodecError`` is enough for a caller who only wants
to know that the input, and not the program, was at fault.
"""

from __future__ import annotations


class TfcodecError(ValueError):
    """Base class of all errors raised by tfcodec."""


class BitstreamError(TfcodecError):
    """The bytes are not a valid tfcodec stream. The message says what is wrong and at which byte."""


class TruncatedError(BitstreamError):
    """The stream ends before the structure being read does."""


class ChecksumError(BitstreamError):
    """A chunk's CRC does not match its bytes: the stream was damaged."""


class UnsupportedVersion(BitstreamError):
    """The stream asks for a newer reader, or for a critical feature that this reader does not know."""


class LimitExceeded(BitstreamError):
    """A field of the stream asks for more than the reader's limits allow."""


class WeightsError(TfcodecError):
    """The network weights that a stream names are not installed, or the weights file is damaged."""


class SpeechCodecMissing(TfcodecError):
    """A speech codec is not installed here; the message says how to get it."""


class NoFaceError(TfcodecError):
    """No face was found in a video that was to be cropped around one."""


class MediaError(TfcodecError):
    """A video, picture or sound could not be read or written."""
