"""The enclave's own engine over the model's folder, for what runs it without an enclave."""

from benchmarks.serving.texts import model_folder
from ephemeral_enclave.engine import Engine
from ephemeral_enclave.engines import build_engine


def load_engine() -> Engine:
    """Build the engine that an enclave would build from these files, in float32."""
    folder = model_folder()
    paths = [path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors")]
    return build_engine({str(path.relative_to(folder)): memoryview(bytearray(path.read_bytes())) for path in paths})
