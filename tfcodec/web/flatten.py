"""Modules of the module for browsers in one file: a worker then comes with one answer of the server, not twenty."""

from __future__ import annotations

import re
from pathlib import Path

_IMPORT = re.compile(r'^import (?:\{([^}]*)\} from )?"\./([\w-]+)\.js";\n', re.MULTILINE)
_NAMED = re.compile(r"^export ((?:async )?function\*?|const|class) (\w+)", re.MULTILINE)
_LISTED = re.compile(r"^export \{([^}]*)\};\n", re.MULTILINE)
_LEFT = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def flatten(folder: Path, name: str) -> str:
    """A module and all that it imports, each in a function of its own, in the order in which they run.

    It takes the forms of `import` and `export` that the module for browsers has.

    Raises:
        ValueError: there is another form, or modules import each other.
    """
    parts: dict[str, str] = {}
    _add(folder, name, parts, [])
    return "".join(parts.values())


def _add(folder: Path, name: str, parts: dict[str, str], above: list[str]) -> None:
    if name in above:
        raise ValueError(f"{name}.js imports itself by way of others")
    if name in parts:
        return
    text = (folder / f"{name}.js").read_text(encoding="utf-8")
    for _, other in _IMPORT.findall(text):
        _add(folder, other, parts, [*above, name])
    names = [found for _, found in _NAMED.findall(text)]
    names += [x.strip() for found in _LISTED.findall(text) for x in found.split(",") if x.strip()]
    text = _IMPORT.sub(_taken, text)
    text = _LISTED.sub("", _NAMED.sub(r"\1 \2", text))
    if left := _LEFT.search(text):
        raise ValueError(f"{name}.js: {left[0]}")
    parts[name] = f"// {name}.js\nconst ${name} = (() => {{\n{text}return {{ {', '.join(names)} }};\n}})();\n"


def _taken(found: re.Match[str]) -> str:
    if found[1] is None:
        return ""
    return f"const {{{found[1].replace(' as ', ': ')}}} = ${found[2]};\n"
