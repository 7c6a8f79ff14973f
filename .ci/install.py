"""Install tfcodec as `make` wants it, into the environment whose Python is named: ``python .ci/install.py PYTHON``.

uv does it in a quarter of pip's time, from the places that pip is told of. Whatever it cannot do, pip does.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

WANTED = ["-c", "constraints.txt", "-e", ".[dev,demo,train,bench,fast,webrtc,onnx]"]
SETTINGS = {
    "index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE", "trusted-host": "UV_INSECURE_HOST", "constraint": "UV_CONSTRAINT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}  # fmt: skip
"""pip's name of a setting -> the variable through which uv takes it."""
LEVELS = ("global", "install", ":env:")
"""Where pip's settings come from: later ones go before."""
OF_HERE = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def settings(listed: str) -> dict[str, str]:
    """uv's variables for what ``pip config list`` says."""
    found: dict[str, str] = {}
    for level in LEVELS:
        for name, value in re.findall(rf"^{level}\.([\w-]+)=(.+)$", listed, re.M):
            if name in SETTINGS:
                words = str(ast.literal_eval(value)).split()
                found[SETTINGS[name]] = ("," if name == "find-links" else " ").join(words)
    if "UV_INDEX" in found:
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # all indexes alike, as pip takes them
    return found


def by_uv(python: str) -> bool:
    """Whether uv could do it."""
    listed = subprocess.run([*OF_HERE, "config", "list"], capture_output=True, text=True, check=False)
    uv = shutil.which("uv") or str(Path(python).parent / "uv")
    if not Path(uv).exists():
        brought = subprocess.run([*OF_HERE, "--python", python, "install", "--quiet", "uv"], capture_output=True)
        if brought.returncode:
            return False
    env = {**(settings(listed.stdout) if listed.returncode == 0 else {}), **os.environ}
    done = subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "pip", *WANTED], env=env, check=False)
    return done.returncode == 0


def by_pip(python: str) -> None:
    pip = [python, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True).returncode:
        subprocess.run([python, "-m", "ensurepip"], check=True)
    pip += ["install", "--quiet", "--disable-pip-version-check"]
    # An old pip (23) takes twice as long to choose versions. Modules are compiled when they are imported: most of them
    # never are.
    subprocess.run([*pip, "--upgrade", "pip"], check=True)
    subprocess.run([*pip, "--no-compile", *WANTED], check=True)


if __name__ == "__main__":
    if not by_uv(sys.argv[1]):
        print("without uv: by pip, which takes longer", file=sys.stderr)
        try:
            by_pip(sys.argv[1])
        except subprocess.CalledProcessError as error:
            sys.exit(error.returncode)
