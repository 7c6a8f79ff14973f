"""Compiles the engine: tfcodec/web/module/engine.wasm and engine-relaxed.wasm, which are part of the source.

    pip install ziglang==0.17.1
    python tfcodec/web/engine/build.py

It has to be run when engine.c changes. The same compiler makes the same bytes. Who uses tfcodec needs none.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE.parent / "module"
VARIANTS = {"engine.wasm": (), "engine-relaxed.wasm": ("+relaxed_simd",)}
PAGES = 16384
"""Most pages of 64 KiB that the memory may have."""


def build(folder: Path = TARGET) -> None:
    """Write both variants into a folder."""
    for name, features in VARIANTS.items():
        cpu = "+".join(("generic+simd128+atomics+bulk_memory+nontrapping_fptoint+sign_ext", *(f[1:] for f in features)))
        command = [
            sys.executable, "-m", "ziglang", "cc", "--target=wasm32-freestanding", f"-mcpu={cpu}", "-O3", "-nostdlib",
            "-ffreestanding", "-fno-math-errno", "-fno-sanitize=all", "-std=c11", "-Wall", "-Werror", "-s",
            "-mllvm", "-disable-lsr",  # which would have addresses computed that loads can have in them
            "-Wl,--no-entry,--import-memory,--shared-memory,--export=__stack_pointer",
            f"-Wl,--max-memory={PAGES * 65536},--initial-memory=1048576,-z,stack-size=65536",
            str(HERE / "engine.c"), "-o", str(folder / name),
        ]  # fmt: skip
        subprocess.run(command, check=True)


if __name__ == "__main__":
    build(*(Path(folder) for folder in sys.argv[1:2]))
