"""Rate-distortion benchmark of tfcodec against classical codecs: the command ``tfcodec bench``.

`run` codes every clip of a folder by every *arm* (a codec at one setting), decodes the written files, measures, and
writes ``results.json``, ``summary.csv`` and one self-contained HTML report. Needs ``pip install 'tfcodec[bench]'``.
"""
