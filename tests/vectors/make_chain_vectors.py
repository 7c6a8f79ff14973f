"""Writes `keyframe_chain.json`: ``python tests/vectors/make_chain_vectors.py``.

Three drawn pictures, the second and third coded as differences from the one before. The file is to stay as it is: it is
made again only if the format changes, since other versions of the encoder give other bytes.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from tfcodec.keyframe import decode_inter_keyframe, decode_keyframe, encode_inter_keyframe, encode_keyframe

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from test_keyframe import drawn_face  # noqa: E402


def main() -> None:
    face = drawn_face()
    chain = [encode_keyframe(face, 2, fast=True)]
    pictures = [decode_keyframe(chain[0])]
    for shift in (3, 7):
        moved = np.roll(face, (shift, -2 * shift), (0, 1))
        data = encode_inter_keyframe(moved, chain, encode_keyframe(moved, 2, fast=True), fast=True)
        if data is None:
            raise SystemExit(f"no difference is cheaper at a shift of {shift}")
        pictures.append(decode_inter_keyframe(data, chain))
        chain.append(data)
    rows = [
        {"data": data.hex(), "sha256": hashlib.sha256(picture.tobytes()).hexdigest()}
        for data, picture in zip(chain, pictures, strict=True)
    ]
    (HERE / "keyframe_chain.json").write_text(json.dumps(rows, indent=1) + "\n")
    print([len(data) for data in chain])


if __name__ == "__main__":
    main()
