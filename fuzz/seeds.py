"""Writes the seed corpora: python -m fuzz.seeds. Only our own code makes them; findings are added by hand beside them.

Keys are made anew, so the bytes differ each time; what the seeds are for does not.
"""

from fuzz.targets import TARGETS


def write() -> None:
    """Write every seed of every target that is not there yet."""
    for target in TARGETS.values():
        target.folder.mkdir(parents=True, exist_ok=True)
        for name, raw in target.seeds().items():
            path = target.folder / name
            if not path.exists():
                path.write_bytes(raw)


if __name__ == "__main__":
    write()
