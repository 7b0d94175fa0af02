"""The costliest inputs that anybody thought of, for each parser, as large as its cap lets them be."""

import json
from collections.abc import Callable, Mapping
from itertools import product
from typing import Final

import cbor2

from ephemeral.protocol import MAX_FRAME_BYTES
from ephemeral.trusted.cbor import MAX_ITEMS, encode
from ephemeral.trusted.channel import pad
from ephemeral.wire import BootContents, EmbedRequest, Finished, InferenceRequest, ModelSource, ServedModel
from fuzz.documents import module
from fuzz.files import safetensors
from fuzz.signed import POLICY, manifest
from fuzz.target import Target
from fuzz.targets import TARGETS

_UNIT: Final = {"dtype": "U8", "shape": [], "data_offsets": [0, 1]}
_REPEATED: Final = "a seed, repeated"


def _repeated(target: Target) -> bytes:
    """Repeat a seed up to the cap."""
    longest = max(target.seeds().values(), key=len)
    return (longest * (target.cap // len(longest) + 1))[: target.cap]


def _many_integers(_: int) -> bytes:
    return encode(dict.fromkeys(range(MAX_ITEMS // 2 - 1)))


def _colliding_keys(_: int) -> bytes:
    """Arrays of -1 and -2, which Python hashes alike; 8 of them make 256 keys of one hash."""
    return cbor2.dumps(dict.fromkeys(product((-1, -2), repeat=8)), canonical=True)


def _nested(cap: int, head: bytes, tail: bytes = b"") -> bytes:
    count = cap // (len(head) + len(tail))
    return head * count + tail * count


def _one_string(cap: int) -> bytes:
    return b"\x5a" + (cap - 5).to_bytes(4, "big") + bytes(cap - 5)


def _toml_key(cap: int) -> bytes:
    """One dotted key: Python's reader looks at all its prefixes."""
    return b"a." * (cap // 2 - 4) + b"a = 1"


def _toml_keys(cap: int) -> bytes:
    """Dotted keys of 250 parts, a line each."""
    line = b"a." * 250 + b"%06d = 1\n"
    return b"".join(line % number for number in range(cap // (len(line) + 2)))


def _toml_tables(cap: int) -> bytes:
    table = "[[models]]\nmodel_id = 'm%d'\n"
    return (POLICY + "".join(table % number for number in range(cap // 32))).encode()[:cap]


def _tensors(cap: int) -> bytes:
    entries: dict[str, object] = {str(n): _UNIT | {"data_offsets": [n, n + 1]} for n in range(4096)}
    raw = safetensors(entries, bytes(4096))
    assert len(raw) < cap
    return raw


def _wide_shape(cap: int) -> bytes:
    """One tensor with tens of thousands of sides, whose product is a number of megabits."""
    sides = [2**40 - 1] * (cap // 16)
    return safetensors({"a": {"dtype": "U8", "shape": sides, "data_offsets": [0, 1]}}, b"\0")


def _vocabulary(cap: int) -> bytes:
    model = {"type": "WordLevel", "vocab": {str(n): n for n in range(cap // 20)}, "unk_token": "0"}
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model}).encode()


def _added_tokens(_: int) -> bytes:
    token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    added = [{"id": n, "content": f"{n:x}" * 8} | token for n in range(4096)]
    model = {"type": "WordLevel", "vocab": {"0": 0}, "unk_token": "0"}
    return json.dumps(
        {"version": "1.0", "added_tokens": added, "normalizer": {"type": "NFKC"}, "model": model}
    ).encode()


def _layers(_: int) -> bytes:
    sizes = {"hidden_size": 16_384, "intermediate_size": 65_536, "num_hidden_layers": 128, "num_attention_heads": 256}
    return json.dumps({"model_type": "bert", "vocab_size": 1_000_000, **sizes}).encode()


def _texts(cap: int) -> bytes:
    return InferenceRequest(
        salt=bytes(32), model_id="m", embed=EmbedRequest(texts=["a"] * (cap // 3 - 40))
    ).SerializeToString()


def _served(cap: int) -> bytes:
    model = ServedModel(model_id="m", version=1)
    return Finished(verify_data=bytes(32), models=[model] * (cap // (model.ByteSize() + 2) - 40)).SerializeToString()


def _sources(cap: int) -> bytes:
    return BootContents(models=[ModelSource()] * (cap // 2)).SerializeToString()


def _unknown_claims(cap: int) -> bytes:
    return encode({-100_000 - number: bytes(cap // 2700) for number in range(2000)})


def _files(_: int) -> bytes:
    return manifest(files=256)


def _many_certificates(_: int) -> bytes:
    """A document with as many certificates as its format has room for, each of the full size."""
    payload = cbor2.loads(cbor2.loads(module().attest())[2])
    payload["cabundle"] = [*payload["cabundle"], *4 * [payload["certificate"].ljust(1024, b"\0")]]
    return (
        b"\x84"
        + cbor2.dumps(bytes.fromhex("a1013822"))
        + b"\xa0"
        + cbor2.dumps(cbor2.dumps(payload))
        + b"\x58\x60"
        + bytes(96)
    )


def _text_lines(cap: int) -> bytes:
    return b"models=" + b"m=k," * (cap // 4 - 4)


Maker = Callable[[int], bytes]
_CBOR: Final[dict[str, Maker]] = {
    "as many integers as are allowed": _many_integers,
    "256 map keys of one hash": _colliding_keys,
    "arrays in arrays": lambda cap: _nested(cap, b"\x81"),
    "one string": _one_string,
}
_TOML: Final[dict[str, Maker]] = {
    "one dotted key": _toml_key,
    "dotted keys of 250 parts": _toml_keys,
    "as many tables as fit": _toml_tables,
    "arrays in arrays": lambda cap: b"a = " + _nested(cap - 4, b"["),
    "one number": lambda cap: b"a = " + b"9" * (cap - 4),
}
_JSON: Final[dict[str, Maker]] = {
    "empty objects": lambda cap: b'{"a":[' + b"{}," * (cap // 3 - 4) + b"{}]}",
    "arrays in arrays": lambda cap: _nested(cap, b"["),
    "one number": lambda cap: b'{"a":' + b"9" * (cap - 6) + b"}",
}
MORE: Final[Mapping[str, Mapping[str, Maker]]] = {
    "cbor": _CBOR,
    "binding": {name: _CBOR[name] for name in ("arrays in arrays", "one string")},
    "bundle": _CBOR,
    "nsm_answer": _CBOR,
    "payload": _CBOR,
    "receipt": _CBOR | {"2,000 unknown claims": _unknown_claims},
    "manifest": _CBOR | {"256 files": _files},
    "document": {"nine certificates of 1,024 bytes": _many_certificates},
    "policy": _TOML,
    "enclave_config": _TOML,
    "strict_json": _JSON,
    "pcr_file": _JSON,
    "architecture": {"128 layers of the largest sizes": _layers},
    "tokenizer": _JSON | {"a vocabulary that fills the cap": _vocabulary, "4,096 added tokens": _added_tokens},
    "safetensors": {"4,096 tensors": _tensors, "a shape of 65,536 sides": _wide_shape},
    "request": {"texts of one letter": _texts},
    "finished": {"as many models as fit": _served},
    "boot_config": {"as many models as fit": _sources},
    "frame": {"one padded message": lambda _: pad(bytes(MAX_FRAME_BYTES // 9 * 8))},
    "host_config": {"as many models as fit": _text_lines},
    "address": {"one host": lambda cap: b"tcp://" + b"a" * (cap - 8) + b":1"},
}


def inputs(name: str) -> dict[str, bytes]:
    """Return the inputs of one target by description: the costly ones, and its seeds."""
    target = TARGETS[name]
    made = {description: make(target.cap) for description, make in MORE.get(name, {}).items()}
    return {**made, _REPEATED: _repeated(target), **{f"seed {seed}": raw for seed, raw in target.seeds().items()}}
