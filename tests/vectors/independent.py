"""A second implementation of what the vectors cover, written from docs/SPEC.md alone.

It imports nothing of the product and neither its CBOR, its HPKE nor its protobuf library: hash functions, curves and
ChaCha20-Poly1305 are all it shares. Section numbers are those of docs/SPEC.md. It serves nothing but to be different.
"""

import hmac
import struct
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

Values = Mapping[str, Any]
hexed = bytes.fromhex


class Refused(Exception):
    """What the specification says must be refused; the text is the code."""


# ---- section 1: conventions


def lp(part: bytes) -> bytes:
    return struct.pack(">I", len(part)) + part


def digest(*parts: bytes) -> bytes:
    return sha256(b"".join(lp(part) for part in parts)).digest()


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt, secret, "sha256")


def hkdf_expand(secret: bytes, info: bytes, size: int) -> bytes:
    block, output = b"", b""
    while len(output) < size:
        block = hmac.digest(secret, block + info + bytes([len(output) // 32 + 1]), "sha256")
        output += block
    return output[:size]


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    size = next(size for size in (1, 2, 4, 8) if argument < 1 << (8 * size))
    return bytes([major << 5 | 24 + size.bit_length() - 1]) + argument.to_bytes(size, "big")


def cbor(value: Any) -> bytes:
    match value:
        case bool() | None:
            return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
        case int():
            return _head(0, value) if value >= 0 else _head(1, -1 - value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            return _head(3, len(value.encode())) + value.encode()
        case list():
            return _head(4, len(value)) + b"".join(map(cbor, value))
        case _:
            pairs = sorted((cbor(key), cbor(item)) for key, item in value.items())
            return _head(5, len(pairs)) + b"".join(key + item for key, item in pairs)


class Reader:
    """Reads CBOR; `nsm` admits what section 5.1 relaxes."""

    def __init__(self, raw: bytes, *, nsm: bool = False, depth: int = 6) -> None:
        self.raw, self.at, self.nsm, self.depth, self.items = raw, 0, nsm, depth, 0

    def take(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self.raw):
            raise Refused("CBOR")
        return self.raw[self.at - size : self.at]

    def argument(self, low: int) -> int:
        if low < 24:
            return low
        if low > 27:
            raise Refused("CBOR")
        value = int.from_bytes(self.take(1 << low - 24), "big")
        if not self.nsm and len(_head(0, value)) != 1 + (1 << low - 24):
            raise Refused("CBOR")
        return value

    def value(self, level: int = 0) -> Any:
        self.items += 1
        first = self.take(1)[0]
        major, low = first >> 5, first & 31
        if level > self.depth or self.items > 4096 or major == 6:
            raise Refused("CBOR")
        if major == 7:
            if low not in (20, 21, 22):
                raise Refused("CBOR")
            return {20: False, 21: True, 22: None}[low]
        if low == 31:
            if not self.nsm or major not in (4, 5):
                raise Refused("CBOR")
            return self.container(major, None, level)
        argument = self.argument(low)
        if major < 2:
            return argument if major == 0 else -1 - argument
        if major < 4:
            return self.string(major, self.take(argument))
        return self.container(major, argument, level)

    @staticmethod
    def string(major: int, content: bytes) -> bytes | str:
        try:
            return content if major == 2 else content.decode()
        except UnicodeDecodeError:
            raise Refused("CBOR") from None

    def container(self, major: int, count: int | None, level: int) -> Any:
        pairs, values, before = {}, [], b""
        while count is None or count > 0:
            if count is None and self.raw[self.at : self.at + 1] == b"\xff":
                self.at += 1
                break
            start = self.at
            values.append(self.value(level + 1))
            if major == 5:
                key = self.raw[start : self.at]
                if key[0] >> 5 in (4, 5) or (not self.nsm and key <= before) or values[-1] in pairs:
                    raise Refused("CBOR")
                before = key
                pairs[values[-1]] = self.value(level + 1)
            count = None if count is None else count - 1
        return pairs if major == 5 else values

    def whole(self) -> Any:
        value = self.value()
        if self.at != len(self.raw):
            raise Refused("CBOR")
        return value


def _undescribed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "int":
            return int(content)
        case "bytes":
            return hexed(content)
        case "array":
            return [_undescribed(item) for item in content]
        case "map":
            return {_undescribed(key): _undescribed(item) for key, item in content}
        case _:
            return content


def derive_cbor(inputs: Values) -> Values:
    encoded = cbor(_undescribed(inputs["value"]))
    assert Reader(encoded).whole() == _undescribed(inputs["value"])
    return {"encoded": encoded}


def refuse_cbor(inputs: Values) -> None:
    Reader(hexed(inputs["encoded"])).whole()


# ---- protobuf, as far as the messages of the schema need it


def proto(*fields: tuple[int, Any]) -> bytes:
    """Serialise numbered fields in ascending order; defaults are left out, as proto3 does."""
    return b"".join(_field(number, value) for number, value in fields if value or isinstance(value, list))


def _field(number: int, value: Any) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, list):
        return b"".join(_varint(number << 3 | 2) + _varint(len(item)) + item for item in map(_as_bytes, value))
    return _field(number, [value])


def _as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _varint(value: int) -> bytes:
    return bytes([value & 127 | 128]) + _varint(value >> 7) if value > 127 else bytes([value])


# ---- sections 4.1 and 7: transcripts and the key schedule


def ed25519(seed: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return key.public_key().public_bytes_raw(), key.sign


def derive_transcript(inputs: Values) -> Values:
    names = ("client_hello", "server_hello", "document", "encapsulated_key")
    client, server, document, encapsulated = (hexed(inputs[name]) for name in names)
    public, sign = ed25519(hexed(inputs["identity_seed"]))
    signed = b"ephemeralml/1 hello" + digest(client, server)
    return {
        "identity_key": public,
        "signed": signed,
        "signature": sign(signed),
        "info": b"ephemeralml/1 session" + struct.pack(">H", 1) + digest(client, server, document),
        "th": digest(client, server, document, encapsulated),
    }


_KEM: Final = b"KEM" + struct.pack(">H", 0x0020)
_HPKE: Final = b"HPKE" + struct.pack(">HHH", 0x0020, 0x0001, 0x0003)


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    return hkdf_extract(salt, b"HPKE-v1" + suite + label + secret)


def _labeled_expand(suite: bytes, secret: bytes, label: bytes, info: bytes, size: int) -> bytes:
    return hkdf_expand(secret, struct.pack(">H", size) + b"HPKE-v1" + suite + label + info, size)


def hpke_exporter(kem_public: bytes, ephemeral: bytes, info: bytes) -> tuple[bytes, Callable[[bytes, int], bytes]]:
    """RFC 9180 sections 4.1, 5.1 and 5.3, base mode."""
    private = X25519PrivateKey.from_private_bytes(ephemeral)
    encapsulated = private.public_key().public_bytes_raw()
    dh = private.exchange(X25519PublicKey.from_public_bytes(kem_public))
    eae = _labeled_extract(_KEM, b"", b"eae_prk", dh)
    shared = _labeled_expand(_KEM, eae, b"shared_secret", encapsulated + kem_public, 32)
    context = (
        b"\0" + _labeled_extract(_HPKE, b"", b"psk_id_hash", b"") + _labeled_extract(_HPKE, b"", b"info_hash", info)
    )
    secret = _labeled_extract(_HPKE, shared, b"secret", b"")
    exporter = _labeled_expand(_HPKE, secret, b"exp", context, 32)
    return encapsulated, lambda label, size: _labeled_expand(_HPKE, exporter, b"sec", label, size)


def derive_key_schedule(inputs: Values) -> Values:
    client, server, document = (hexed(inputs[name]) for name in ("client_hello", "server_hello", "document"))
    kem = X25519PrivateKey.from_private_bytes(hexed(inputs["kem_private_key"])).public_key().public_bytes_raw()
    info = b"ephemeralml/1 session\x00\x01" + digest(client, server, document)
    encapsulated, export = hpke_exporter(kem, hexed(inputs["ephemeral_private_key"]), info)
    th = digest(client, server, document, encapsulated)
    c2s, s2c = export(b"ephemeralml/1 c2s" + th, 32), export(b"ephemeralml/1 s2c" + th, 32)
    finished_key = hkdf_expand(s2c, b"finished", 32)
    return {
        "kem_public_key": kem,
        "encapsulated_key": encapsulated,
        "info": info,
        "th": th,
        "c2s": c2s,
        "s2c": s2c,
        "session_id": export(b"ephemeralml/1 session id" + th, 16),
        "c2s_key": hkdf_expand(c2s, b"key", 32),
        "c2s_iv": hkdf_expand(c2s, b"iv", 12),
        "s2c_key": hkdf_expand(s2c, b"key", 32),
        "s2c_iv": hkdf_expand(s2c, b"iv", 12),
        "finished_key": finished_key,
        "verify_data": hmac.digest(finished_key, th, "sha256"),
    }


# ---- section 8: frames


def bucket(size: int) -> int:
    size = max(size, 256)
    exponent = len(bin(size)) - 3
    bits = len(bin(exponent)) - 2
    step = 1 << exponent - bits
    return -(-size // step) * step


def padded(message: bytes) -> bytes:
    body = lp(message)
    return body + bytes(bucket(len(body)) - len(body))


def derive_frame(inputs: Values) -> Values:
    secret, session, message = (hexed(inputs[name]) for name in ("secret", "session_id", "message"))
    at = (inputs["sequence"], inputs["chunk"], inputs["final"])
    key, iv, nonce, aad = _place(secret, session, inputs["direction"], inputs["method"], *at)
    ciphertext = ChaCha20Poly1305(key).encrypt(nonce, padded(message), aad)
    frame = proto((1, session), (2, at[0]), (3, at[1]), (4, at[2]), (5, ciphertext))
    names = ("key", "iv", "nonce", "aad", "plaintext", "ciphertext", "frame")
    return dict(zip(names, (key, iv, nonce, aad, padded(message), ciphertext, frame), strict=True))


def _place(
    secret: bytes, session: bytes, direction: int, method: int, sequence: int, chunk: int, final: int
) -> tuple[bytes, bytes, bytes, bytes]:
    key, iv = hkdf_expand(secret, b"key", 32), hkdf_expand(secret, b"iv", 12)
    nonce = bytes(a ^ b for a, b in zip(iv, struct.pack(">QI", sequence, chunk), strict=True))
    aad = b"ephemeralml/1" + session + struct.pack(">BBQIB", direction, method, sequence, chunk, final)
    return key, iv, nonce, aad


def _message_fields(raw: bytes) -> dict[int, Any]:
    fields: dict[int, Any] = {}
    while raw:
        tag, raw = _read_varint(raw)
        size, raw = _read_varint(raw)
        if tag & 7 == 2:
            size, raw = raw[:size], raw[size:]  # type: ignore[assignment]
        fields[tag >> 3] = size
    return fields


def _read_varint(raw: bytes) -> tuple[int, bytes]:
    low = raw[0] & 127
    if raw[0] < 128:
        return low, raw[1:]
    high, rest = _read_varint(raw[1:])
    return high << 7 | low, rest


def refuse_frame(inputs: Values) -> None:
    frame = _message_fields(hexed(inputs["frame"]))
    session, ciphertext = frame.get(1, b""), frame.get(5, b"")
    if session != hexed(inputs["session_id"]) or not 17 <= len(ciphertext) <= 4_194_304:
        raise Refused("FRAME_REJECTED")
    at = (frame.get(2, 0), frame.get(3, 0), frame.get(4, 0))
    key, _, nonce, aad = _place(hexed(inputs["secret"]), session, inputs["direction"], inputs["method"], *at)
    try:
        plaintext = ChaCha20Poly1305(key).decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        raise Refused("FRAME_REJECTED") from None
    refuse_padding({"plaintext": plaintext.hex()})


def derive_padding(inputs: Values) -> Values:
    return {"padded": bucket(inputs["size"])}


def refuse_padding(inputs: Values) -> None:
    plaintext = hexed(inputs["plaintext"])
    size = int.from_bytes(plaintext[:4], "big")
    if len(plaintext) < 4 or 4 + size > len(plaintext) or padded(plaintext[4 : 4 + size]) != plaintext:
        raise Refused("FRAME_REJECTED")


def derive_replay(inputs: Values) -> Values:
    seen: set[int] = set()
    accepted = []
    for sequence in inputs["sequences"]:
        fresh = 1 <= sequence <= 2**20 and sequence not in seen and sequence > max(seen, default=0) - 1024
        accepted.append(fresh)
        if fresh:
            seen.add(sequence)
    return {"accepted": accepted}


DERIVE: Final[dict[str, Callable[[Values], Values]]] = {
    "cbor": derive_cbor,
    "transcript": derive_transcript,
    "key-schedule": derive_key_schedule,
    "frames": derive_frame,
    "padding": derive_padding,
    "replay-window": derive_replay,
}
REFUSE: Final[dict[str, Callable[[Values], None]]] = {
    "cbor": refuse_cbor,
    "frames": refuse_frame,
    "padding": refuse_padding,
}
