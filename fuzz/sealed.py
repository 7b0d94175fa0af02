"""What is sealed, and the handshake: containers, KMS's answer, frames, hellos."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from google.protobuf.message import DecodeError

from ephemeral.errors import ContainerError, ForgedRelease, FrameRejected, HandshakeRejected, RequestRefused
from ephemeral.protocol import MAX_CMS_BYTES, MAX_FRAME_BYTES, MAX_HELLO_BYTES, Method
from ephemeral.trusted.artifact import ContainerInfo, ContainerOpener, container_size, seal_container
from ephemeral.trusted.channel import Position, lanes, pad, unpad
from ephemeral.trusted.cms import RecipientKey
from ephemeral.trusted.cms.ber import BerError
from ephemeral.trusted.cms.envelope import parse_envelope
from ephemeral.trusted.cms.recipient import _decrypt_content
from ephemeral.trusted.handshake import client, parse_client_hello
from ephemeral.trusted.handshake.schedule import Transcript, decapsulate, encapsulate, generate_kem_key
from ephemeral.trusted.manifest import model_set_digest
from ephemeral.trusted.secrets import SecretBytes
from ephemeral.wire import (
    ClientHello,
    EmbedRequest,
    Finished,
    InferenceRequest,
    SealedFrame,
    ServedModel,
    ServerHello,
    SessionLimits,
)
from ephemeral_devstack.cms import seal_for_recipient
from ephemeral_enclave.inference import parse_request
from fuzz.target import Target

_DEK: Final = bytes(range(32))
_ID: Final = b"\x06" * 16
_CHUNK: Final = 4096
_OVERHEAD: Final = container_size(1, _CHUNK) - 1
_LANES: Final = (bytes(32), b"\x01" * 32, b"\x02" * 16)


def container(raw: bytes) -> None:
    """A container whose manifest vouches for exactly these bytes: what is left is the container's own doing."""
    size = len(raw) - _OVERHEAD
    while size > 0 and container_size(size, _CHUNK) > len(raw):
        size -= 1
    if size < 1 or container_size(size, _CHUNK) != len(raw):
        raise ContainerError("no container has this size")
    info = ContainerInfo("m", hashlib.sha256(raw).digest(), len(raw), _CHUNK, _ID)
    opener = ContainerOpener(info, size, SecretBytes(_DEK))
    for start in range(0, len(raw), 1000):
        opener.push(raw[start : start + 1000])
    opener.finish()


def _container_seeds() -> Mapping[str, bytes]:
    def seal(plaintext: bytes) -> bytes:
        return b"".join(seal_container([plaintext], SecretBytes(_DEK), chunk_bytes=_CHUNK, container_id=_ID))

    return {"one-chunk": seal(b"model"), "two-chunks": seal(bytes(_CHUNK + 1)), "bad-header": b"EPHMODEL" + bytes(60)}


@cache
def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _cms(raw: bytes) -> None:
    """Through the one-time key, and then the content alone, as if the key had fitted."""
    with suppress(ForgedRelease):
        RecipientKey(_rsa()).open(raw)
    _decrypt_content(_DEK, parse_envelope(raw))


def _cms_seeds() -> Mapping[str, bytes]:
    raw = seal_for_recipient(_DEK, RecipientKey(_rsa()).spki_der)
    return {"answer": raw, "bad-cut": raw[:-1]}


def frame(raw: bytes) -> None:
    """As the bytes of a frame, and as the padded plaintext of one that is authentic."""
    lane, _ = lanes(*_LANES)
    try:
        received = SealedFrame.FromString(raw)
    except DecodeError:
        received = SealedFrame()
    try:
        lane.open(received, Method.INFER)
    except FrameRejected:
        assert pad(unpad(raw)) == raw


def _frame_seeds() -> Mapping[str, bytes]:
    sealed, _ = lanes(*_LANES)
    whole = sealed.seal(b"message", Position(Method.INFER, 1)).SerializeToString()
    return {"frame": whole, "padded": pad(b"message"), "bad-padding": pad(b"message")[:-1] + b"\1"}


def _client_hello_seeds() -> Mapping[str, bytes]:
    hello = ClientHello(version=1, suites=[1], nonce=bytes(32), fresh_attestation=True)
    other = ClientHello(version=1, suites=[2], nonce=bytes(32))
    return {"hello": hello.SerializeToString(), "bad-suite": other.SerializeToString()}


def _server_hello(raw: bytes) -> None:
    """Parsed, and its HPKE key used."""
    hello = client._parse_server_hello(raw)
    encapsulate(hello.kem_public_key, Transcript(b"client", raw, b"document"))


def _server_hello_seeds() -> Mapping[str, bytes]:
    sound = ServerHello(suite=1, nonce=bytes(32), offer_id=bytes(16), kem_public_key=generate_kem_key()[1])
    low = ServerHello(suite=1, nonce=bytes(32), offer_id=bytes(16), kem_public_key=bytes(32))
    return {"hello": sound.SerializeToString(), "bad-low-order": low.SerializeToString()}


def _encapsulated_key(raw: bytes) -> None:
    decapsulate(generate_kem_key(), Transcript(b"client", b"server", b"document", raw))


def _encapsulated_key_seeds() -> Mapping[str, bytes]:
    return {"key": generate_kem_key()[1], "bad-low-order": bytes(32), "bad-short": bytes(31)}


def _finished(raw: bytes) -> None:
    finished = client._parse_finished(raw)
    model_set_digest((model.model_id, model.version, model.manifest_digest) for model in finished.models)


def _finished_seeds() -> Mapping[str, bytes]:
    models = [ServedModel(model_id="m", version=1, manifest_digest=bytes(32))]
    limits = SessionLimits(lifetime_seconds=3600, idle_seconds=600, max_requests=2**20, max_frame_bytes=2**22)
    return {
        "finished": Finished(verify_data=bytes(32), limits=limits, models=models).SerializeToString(),
        "bad": b"\xff",
    }


def _request_seeds() -> Mapping[str, bytes]:
    request = InferenceRequest(salt=bytes(32), model_id="m", embed=EmbedRequest(texts=["text", "another"]))
    empty = InferenceRequest(salt=bytes(32), model_id="m", embed=EmbedRequest(texts=[""]))
    return {"request": request.SerializeToString(), "bad-empty-text": empty.SerializeToString()}


TARGETS: Final = (
    Target("container", container, (ContainerError,), _container_seeds, 65_536),
    Target("cms", _cms, (BerError,), _cms_seeds, MAX_CMS_BYTES),
    Target("frame", frame, (FrameRejected,), _frame_seeds, MAX_FRAME_BYTES),
    Target("client_hello", parse_client_hello, (HandshakeRejected,), _client_hello_seeds, MAX_HELLO_BYTES),
    Target("server_hello", _server_hello, (HandshakeRejected,), _server_hello_seeds, MAX_HELLO_BYTES),
    Target("encapsulated_key", _encapsulated_key, (HandshakeRejected,), _encapsulated_key_seeds, 64),
    Target("finished", _finished, (FrameRejected,), _finished_seeds, MAX_FRAME_BYTES),
    Target("request", parse_request, (RequestRefused,), _request_seeds, MAX_FRAME_BYTES),
)
