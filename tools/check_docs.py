"""Checks the Markdown files against the tree: links resolve, commands exist, quoted --help texts are the real ones.

A fenced block tagged `sh` holds commands, one a line; one tagged `console` holds `$ command` lines, each followed by
what it prints. In a `console` block, a command whose last word is --help must print exactly what is shown.
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)|!\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)
_TARGET = re.compile(r"^([\w-]+):", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Quoted:
    """A command as a document shows it, with the output shown below it (None: an `sh` block shows none)."""

    command: str
    output: str | None = None


def documents(root: Path) -> list[Path]:
    """Every Markdown file below `root`, hidden folders left out."""
    found = (path for path in root.rglob("*.md") if not any(p.startswith(".") for p in path.relative_to(root).parts))
    return sorted(found)


def anchors(text: str) -> set[str]:
    """The fragment of every heading, as code hosts make it."""
    titles = [
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in _HEADING.findall(_without_code(text))
    ]
    return {title if not (n := titles[:i].count(title)) else f"{title}-{n}" for i, title in enumerate(titles)}


def broken_links(path: Path, root: Path) -> Iterator[str]:
    """What is wrong with each relative link of the document at `path`."""
    for first, second in _LINK.findall(_without_code(path.read_text())):
        link = first or second
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        name, _, fragment = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.is_relative_to(root) or not target.exists():
            yield f"{link}: no such file"
        elif fragment and target.suffix == ".md" and fragment not in anchors(target.read_text()):
            yield f"{link}: no such heading"


def quoted(text: str) -> Iterator[Quoted]:
    """The commands in the fenced blocks of a document, in order."""
    for tag, body in _FENCE.findall(text):
        if tag == "sh":
            yield from (
                Quoted(line) for line in _joined(body).splitlines() if line.strip() and not line.startswith("#")
            )
        elif tag == "console":
            for part in re.split(r"^\$ ", _joined(body), flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                yield Quoted(command, output)


def missing(command: str, root: Path) -> str | None:
    """Say what `command` names that the tree does not have; None for commands that are not this project's."""
    words = [word for word in shlex.split(command, comments=True) if not re.match(r"[A-Z_]+=", word)]
    match words:
        case ["make", *names]:
            targets = set(_TARGET.findall((root / "Makefile").read_text()))
            return next((f"make has no target {name}" for name in names if name not in targets), None)
        case [python, "-m", module, *_] if Path(python).name.startswith("python") and module not in {"venv", "pip"}:
            return None if _has_module(module) else f"no module {module}"
        case [program, *_] if re.match(r"(\./)?(tools|\.ci)/", program):
            return None if os.access(root / program, os.X_OK) else f"no executable {program}"
    return None


def stale_help(entry: Quoted, root: Path) -> str | None:
    """Run a quoted `… --help` of this project and compare; None if it is no such command or its text is right."""
    words = shlex.split(entry.command, comments=True)
    if entry.output is None or words[-1:] != ["--help"] or not (program := _program(words[0], root)):
        return None
    environment = os.environ | {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
    run = subprocess.run([program, *words[1:]], capture_output=True, text=True, env=environment, check=False, cwd=root)
    if run.returncode:
        return f"exits with {run.returncode}: {run.stderr.strip()[-200:]}"
    return None if run.stdout.strip() == entry.output.strip() else "prints another text now"


def faults(path: Path, root: Path) -> list[str]:
    """Everything wrong with the document at `path`, one line each."""
    found = [f"link {fault}" for fault in broken_links(path, root)]
    for entry in quoted(path.read_text()):
        fault = missing(entry.command, root) or stale_help(entry, root)
        found += [f"`{entry.command}`: {fault}"] if fault else []
    return [f"{path.relative_to(root)}: {fault}" for fault in found]


def _without_code(text: str) -> str:
    return re.sub(r"`[^`\n]+`\s*(?=\])", "code", _FENCE.sub("", text))


def _joined(body: str) -> str:
    return body.replace("\\\n", " ")


def _has_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _program(word: str, root: Path) -> str | None:
    if Path(word).name.startswith("python"):
        return sys.executable
    beside = Path(sys.executable).with_name(Path(word).name)
    return str(beside) if beside.exists() else str(root / word) if (root / word).is_file() else None


def main() -> int:
    """Check every document of this checkout."""
    root = Path(__file__).resolve().parent.parent
    checked = documents(root)
    found = [fault for path in checked for fault in faults(path, root)]
    print(*found, f"{len(checked)} documents checked, {len(found)} faults", sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
