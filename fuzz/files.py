"""Texts and model files: policies, settings, addresses, PCR files, JSON, tensors, tokenizers, the host's own input."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from google.protobuf.message import DecodeError

from ephemeral.errors import AddressError, ConfigError, InvalidRequest, ModelFormatError, PolicyError
from ephemeral.protocol import MAX_BOOT_CONFIG_BYTES
from ephemeral.transport import Address
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.trusted.policy.file import MAX_POLICY_BYTES
from ephemeral.wire import AuditEvent, AuditKind, BootContents, ModelSource
from ephemeral_enclave.boot import parse_boot_config
from ephemeral_enclave.config import MAX_CONFIG_BYTES, EnclaveConfig
from ephemeral_enclave.strict_json import MAX_JSON_BYTES, parse_object
from ephemeral_enclave.tokenizer import MAX_TOKENIZER_BYTES, read_tokenizer
from ephemeral_enclave.transformer import bare_model
from ephemeral_enclave.weights import MAX_HEADER_BYTES, read_tensors
from ephemeral_host import config as host_config
from ephemeral_host.audit import AuditLog, AuditService
from ephemeralml.pcr_file import MAX_PCR_FILE_BYTES, read_measurements
from fuzz.signed import KEY, POLICY
from fuzz.target import Target

_TEXT: Final = 65_536
_PCRS: Final = {f"PCR{index}": f"{index + 1:02x}" * 48 for index in range(3)}
_TOKENIZER: Final[dict[str, object]] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]"},
}
_CONFIG: Final = {
    "model_type": "bert",
    "hidden_size": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 4,
    "vocab_size": 4,
    "max_position_embeddings": 4,
}


def _text(raw: bytes) -> str:
    """Return any bytes as some text."""
    return raw.decode(errors="replace")


def _policy_seeds() -> Mapping[str, bytes]:
    return {
        "policy": POLICY.encode(),
        "bad-unknown-key": (POLICY + "x = 1\n").encode(),
        "bad-date": b"version = 1979-01-01",
    }


def _pcr_seeds() -> Mapping[str, bytes]:
    nested = json.dumps({"Measurements": {"HashAlgorithm": "Sha384 { ... }", **_PCRS}}).encode()
    return {"nitro-cli": nested, "flat": json.dumps(_PCRS).encode(), "bad-empty": b"{}"}


def _enclave_config_seeds() -> Mapping[str, bytes]:
    toml = f"""
version = 1
listen = "vsock://any:5000"
host = "vsock://3:8082"
[[publishers]]
public_key = "{KEY.verifying_key.raw.hex()}"
[[models]]
model_id = "m"
minimum_version = 1
[limits]
threads = 1
"""
    return {
        "config": toml.encode(),
        "bad-unknown-key": (toml + "x = 1\n").encode(),
        "bad-date": b"version = 1979-01-01",
    }


def _boot_seeds() -> Mapping[str, bytes]:
    sources = [
        ModelSource(model_id="m", manifest_key="models/m/1/manifest"),
        ModelSource(model_id="n", manifest_key="k"),
    ]
    return {"boot": BootContents(models=sources).SerializeToString(), "bad-unknown-field": b"\x9a\x06\x00"}


def _address(raw: bytes) -> None:
    """An address that parses is read back equal from what it prints."""
    address = Address.parse(_text(raw))
    assert Address.parse(str(address)) == address


def _address_seeds() -> Mapping[str, bytes]:
    texts = ("tcp://localhost:7443", "tcp://[::1]:1", "unix:///run/x", "vsock://16:5000", "vsock://any:8082")
    return {f"address-{number}": text.encode() for number, text in enumerate(texts)} | {"bad": b"http://x"}


def _host_config(raw: bytes) -> None:
    """Lines NAME=value as the host's whole environment."""
    before = dict(os.environ)
    pairs = (line.partition("=") for line in _text(raw).replace("\0", "").splitlines())
    ours = {
        host_config.PREFIX + name.upper(): value for name, _, value in pairs if name.isascii() and name.isidentifier()
    }
    try:
        os.environ.update({name: value for name, value in ours.items() if value.isprintable()})
        host_config.load()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _host_config_seeds() -> Mapping[str, bytes]:
    lines = ["s3_bucket=models", "models=m=models/m,n=models/n", "listen=tcp://127.0.0.1:0", "enclave=unix:///run/e"]
    numbers = ["max_connections=5", "idle_timeout_seconds=1.5", "bytes_per_second=4096"]
    return {"settings": "\n".join([*lines, *numbers]).encode(), "bad-nothing": b""}


def _audit(raw: bytes) -> None:
    try:
        event = AuditEvent.FromString(raw)
    except DecodeError:
        raise InvalidRequest("gRPC ends the call") from None
    record = AuditService(AuditLog(None), clock=lambda: datetime(2026, 1, 1, tzinfo=UTC))._record(event)
    assert json.dumps(record, ensure_ascii=True).isprintable()


def _audit_seeds() -> Mapping[str, bytes]:
    event = AuditEvent(kind=AuditKind.AUDIT_KIND_MODEL_LOADED, time_ms=1, sequence=2, reason="CODE", model_id="m")
    return {"event": event.SerializeToString(), "bad-kind": AuditEvent(time_ms=1).SerializeToString()}


def _json_seeds() -> Mapping[str, bytes]:
    return {
        "object": b'{"a": [1, 2.5, "x", null, true, {"b": {}}]}',
        "bad-twice": b'{"a":1,"a":2}',
        "bad-nan": b'{"a":NaN}',
    }


def tensors(raw: bytes) -> None:
    """A safetensors file: eight bytes of length, a header, data."""
    read_tensors(memoryview(bytearray(raw)))


def safetensors(entries: Mapping[str, object], data: bytes) -> bytes:
    """Return a file with this header."""
    header = json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + data


def _tensor_seeds() -> Mapping[str, bytes]:
    entry = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}
    more = {"a": entry, "b": {"dtype": "I64", "shape": [], "data_offsets": [8, 16]}, "__metadata__": {"format": "pt"}}
    return {
        "one": safetensors({"a": entry}, bytes(8)),
        "two": safetensors(more, bytes(16)),
        "empty-side": safetensors({"a": entry | {"shape": [0, 5], "data_offsets": [0, 0]}}, b""),
        "bad-hole": safetensors({"a": entry | {"data_offsets": [4, 12]}}, bytes(12)),
    }


def _tokenizer_seeds() -> Mapping[str, bytes]:
    piece = {"type": "WordPiece", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
    pieces = _TOKENIZER | {"model": piece | {"max_input_chars_per_word": 9}}
    regex = _TOKENIZER | {"normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}}
    return {
        name: json.dumps(value).encode()
        for name, value in {"word-level": _TOKENIZER, "word-piece": pieces, "bad-regex": regex}.items()
    }


def _architecture(raw: bytes) -> None:
    bare_model(parse_object(raw, "config.json"))


def _architecture_seeds() -> Mapping[str, bytes]:
    return {"bert": json.dumps(_CONFIG).encode(), "bad-code": json.dumps(_CONFIG | {"auto_map": {}}).encode()}


TARGETS: Final = (
    Target("policy", lambda raw: TrustPolicy.parse(_text(raw)), (PolicyError,), _policy_seeds, MAX_POLICY_BYTES),
    Target("pcr_file", lambda raw: read_measurements(raw, None), (PolicyError,), _pcr_seeds, MAX_PCR_FILE_BYTES),
    Target("enclave_config", EnclaveConfig.parse, (ConfigError,), _enclave_config_seeds, MAX_CONFIG_BYTES),
    Target("boot_config", parse_boot_config, (ConfigError,), _boot_seeds, MAX_BOOT_CONFIG_BYTES),
    Target("address", _address, (AddressError,), _address_seeds, _TEXT),
    Target("host_config", _host_config, (ConfigError,), _host_config_seeds, _TEXT),
    Target("audit_event", _audit, (InvalidRequest,), _audit_seeds, 4096),
    Target("strict_json", lambda raw: parse_object(raw, "it"), (ModelFormatError,), _json_seeds, MAX_JSON_BYTES),
    Target("safetensors", tensors, (ModelFormatError,), _tensor_seeds, MAX_HEADER_BYTES),
    Target(
        "tokenizer",
        lambda raw: read_tokenizer(memoryview(raw), 8),
        (ModelFormatError,),
        _tokenizer_seeds,
        MAX_TOKENIZER_BYTES,
    ),
    Target("architecture", _architecture, (ModelFormatError,), _architecture_seeds, MAX_JSON_BYTES),
)
