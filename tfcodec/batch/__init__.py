"""Many files at once: `tfcodec.encode_batch`, `tfcodec.decode_batch` and the command `tfcodec batch`.

`plan` finds out what there is to do, `worker` does a file, `pool` keeps workers on this machine, `manifest` remembers,
`run` puts them together.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from ..errors import TfcodecError

if TYPE_CHECKING:
    from ..runtime import Runtime
    from .options import NoFace
    from .run import Engine, Progress, Report


def encode_batch(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    quality: int | None = None,
    kbps: float | None = None,
    crop: Literal["auto", "none"] = "auto",
    no_face: NoFace = "fail",
    refine: bool = True,
    motion: bool = True,
    speech: str = "auto",
    inter_keyframes: bool = True,
    silence: Literal["gate", "send"] = "gate",
    strict: bool = False,
    device: str = "cpu",
    jobs: int = 1,
    dask: str | None = None,
    retry: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Encode a folder, a list or a table of videos into a folder of streams, with a manifest.

    What is there already, of the same source by the same options, is left alone: a batch that was interrupted goes on,
    and one that is complete does nothing. A file that cannot be encoded never stops the others. Streams are there whole
    or not at all; a worker that dies is replaced, and its file done again, by up to three workers.

    Args:
        source: a folder of videos, searched with its subfolders; a list, ``.txt``, a path in each line; or a table,
            ``.csv`` or ``.parquet`` (needs pyarrow), with a column ``path``, and as far as wanted ``out``, ``quality``,
            ``kbps``, ``crop``, ``no_face`` and ``speech``, which hold for that file. Paths in lists and tables are
            relative to their own folder.
        out: folder for the streams, and for ``manifest.jsonl`` (also ``manifest.parquet``, where pyarrow is installed):
            a row for each file with its source's SHA-256, options, version, rate by part, duration, warnings, error.
        no_face: what becomes of a file in which ``crop="auto"`` finds no face: ``"fail"``: it counts as failed;
            ``"skip"``: it has no stream, and that is no failure; ``"crop"``: the centre square is encoded, with a
            warning.
        jobs: processes, each of one thread. One takes up to 1.2 GB.
        dask: address of a Dask scheduler, whose workers do it instead (needs distributed); they must find sources and
            output folder at the same paths.
        retry: try again what failed in an earlier run because of the file itself. What failed for other reasons (a full
            disk, a missing codec, a worker that was killed) is tried again in any case.
        force: make everything anew, and overwrite files that are not of this batch.
        progress: called with (bytes of sources done, bytes in all, the `Report` so far).
        quality, kbps, crop, refine, motion, speech, inter_keyframes, silence, strict, device: as for `tfcodec.encode`.
            With a graphics card, as many processes share it as there are ``jobs``.

    Returns:
        A Report: counts, and the manifest's rows by name.

    Raises:
        MediaError: the source is not there or names no files, the output folder cannot be written, or another batch is
            at work there.
        SpeechCodecMissing: the speech codec is not installed.
        TfcodecError: an argument is out of range, or workers do not start.
    """
    from .options import Encoding
    from .run import run

    options = Encoding(quality, kbps, crop, no_face, refine, motion, speech, inter_keyframes, silence, strict, device)
    return run(source, out, options, jobs=jobs, retry=retry, force=force, progress=progress, engine=_engine(dask))


def decode_batch(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    lossless: bool = False,
    errors: Literal["raise", "conceal"] = "raise",
    coarse: bool = False,
    fast: bool = False,
    network: str | None = None,
    device: str = "cpu",
    batch: int | None = None,
    runtime: Runtime = "torch",
    jobs: int = 1,
    dask: str | None = None,
    retry: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Decode a folder, a list or a table of streams into a folder of videos, with a manifest.

    Args:
        source: as for `encode_batch`; of a folder its ``.tfc`` files.
        out: folder for the videos (``.mp4``; ``.mkv`` with ``lossless``) and the manifest.
        lossless, errors, coarse, fast, network, device, batch, runtime: as for `tfcodec.decode_to`.
        jobs, dask, retry, force, progress: as for `encode_batch`.

    Returns, raises: as `encode_batch`.
    """
    from .options import Decoding
    from .run import run

    if errors not in ("raise", "conceal"):
        raise TfcodecError(f'errors must be "raise" or "conceal", not {errors!r}')
    options = Decoding(lossless, errors == "conceal", coarse, fast, device, network, runtime, batch)
    return run(source, out, options, jobs=jobs, retry=retry, force=force, progress=progress, engine=_engine(dask))


def _engine(dask: str | None) -> Engine | None:
    if dask is None:
        return None
    from .cluster import Dask

    return Dask(dask)
