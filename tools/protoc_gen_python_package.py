"""Local buf plugin: messages, gRPC stubs and type stubs as one importable package.

buf hands a CodeGeneratorRequest over on stdin. grpcio-tools carries the generators but no stand-alone plugin for the
gRPC half, and protoc writes absolute imports that resolve only with the output folder on sys.path. This plugin runs
grpcio-tools once over buf's image and re-roots those imports under PACKAGE.
"""

import re
import sys
import tempfile
from pathlib import Path, PurePosixPath

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

PROTO_ROOT, PACKAGE = "ephemeralml", "ephemeral.generated"
GENERATORS = ("python", "grpc_python", "mypy", "mypy_grpc")


def generate(request: CodeGeneratorRequest, out: Path) -> int:
    """Write every generator's files for `request` below `out`; return protoc's exit code."""
    image = out.parent / "image.binpb"
    image.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
    flags = [f"--{name}_out=quiet:{out}" if "mypy" in name else f"--{name}_out={out}" for name in GENERATORS]
    return int(protoc.main(["protoc", f"--descriptor_set_in={image}", *flags, *request.file_to_generate]))


def packaged(out: Path) -> CodeGeneratorResponse:
    """Collect the files below `out`, re-rooted, with an __init__.py in every folder."""
    response = CodeGeneratorResponse(supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    for path in sorted(out.rglob("*.py*")):
        name = PurePosixPath(path.relative_to(out / PROTO_ROOT))
        text = re.sub(rf"^(from|import) {PROTO_ROOT}\.", rf"\1 {PACKAGE}.", path.read_text(), flags=re.MULTILINE)
        text = re.sub(rf"\b{PROTO_ROOT}\.v1\.(\w+_pb2)\b", rf"{PACKAGE}.v1.\1", text) if path.suffix == ".pyi" else text
        response.file.add(name=str(name), content=text)
    for folder in sorted({Path(f.name).parent for f in response.file} | {Path()}):
        response.file.add(name=(folder / "__init__.py").as_posix(), content="")
    return response


def main() -> int:
    """Answer the request on stdin."""
    request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        out.mkdir()
        if code := generate(request, out):
            return code
        sys.stdout.buffer.write(packaged(out).SerializeToString())
    return 0


if __name__ == "__main__":
    sys.exit(main())
