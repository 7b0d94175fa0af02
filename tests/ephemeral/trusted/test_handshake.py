"""The handshake against a host that alters, swaps and replays its messages."""

import hashlib
import struct
from datetime import timedelta

import pytest

from ephemeral.errors import AttestationError, BindingMismatch, FrameRejected, HandshakeRejected, SessionError
from ephemeral.protocol import MAX_MODELS, Method
from ephemeral.trusted.channel import Position
from ephemeral.trusted.handshake import Greeting, Offer, parse_client_hello
from ephemeral.trusted.handshake.schedule import Transcript, encapsulate, generate_kem_key
from ephemeral.wire import ClientHello, Finished, HelloResponse, OpenResponse, SealedFrame, ServedModel, ServerHello
from tests.support.invariants import tally
from tests.support.peers import LIMITS, MODELS, Enclave, nonce_of, now, open_session

LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def hello_response(offer: Offer, **changes: bytes) -> HelloResponse:
    response = HelloResponse()
    response.CopyFrom(offer.response)
    for name, value in changes.items():
        setattr(response, name, value)
    return response


def with_server_hello(offer: Offer, **changes: object) -> HelloResponse:
    hello = ServerHello.FromString(offer.response.server_hello)
    for name, value in changes.items():
        setattr(hello, name, value)
    return hello_response(offer, server_hello=hello.SerializeToString())


def test_honest_handshake_gives_both_ends_one_channel() -> None:
    client, accepted = open_session()
    answer = client.channel.seal(b"q", Method.INFER)
    request = accepted.channel.open(answer.frame, Method.INFER)
    assert answer.open(request.seal(b"r")) == b"r"
    assert client.models == MODELS
    assert client.nonce == accepted.nonce


def test_two_sessions_share_no_key_and_no_id() -> None:
    (one, accepted_one), (_, accepted_two) = open_session(), open_session()
    assert accepted_one.channel.session_id != accepted_two.channel.session_id
    frame = one.channel.seal(b"q", Method.INFER).frame
    frame.session_id = accepted_two.channel.session_id
    with pytest.raises(FrameRejected):
        accepted_two.channel.open(frame, Method.INFER)


def test_substituted_kem_key_is_caught_before_anything_is_sealed() -> None:
    enclave = Enclave()
    greeting = Greeting(enclave.policy())
    _, attacker = generate_kem_key()
    with pytest.raises(HandshakeRejected) as caught:
        greeting.verify(with_server_hello(enclave.answer(greeting), kem_public_key=attacker), now())
    assert caught.value.code == "HELLO_SIGNATURE"


def test_every_flipped_bit_of_the_server_hello_and_signature_is_caught() -> None:
    enclave = Enclave()
    greeting = Greeting(enclave.policy())
    offer = enclave.answer(greeting)
    with tally("INV-1") as tried:
        for field in ("server_hello", "signature"):
            original = getattr(offer.response, field)
            for index in range(len(original) * 8):
                flipped = bytearray(original)
                flipped[index // 8] ^= 1 << index % 8
                tried.case()
                with pytest.raises((SessionError, AttestationError)):
                    greeting.verify(hello_response(offer, **{field: bytes(flipped)}), now())


def test_flipped_bits_of_the_document_are_caught() -> None:
    enclave = Enclave()
    greeting = Greeting(enclave.policy())
    offer = enclave.answer(greeting)
    document = offer.response.attestation_document
    for index in range(0, len(document) * 8, 101):
        flipped = bytearray(document)
        flipped[index // 8] ^= 1 << index % 8
        with pytest.raises((SessionError, AttestationError)):
            greeting.verify(hello_response(offer, attestation_document=bytes(flipped)), now())


def test_document_of_another_enclave_of_the_same_build_is_caught() -> None:
    enclave = Enclave()
    other = Enclave(nsm=enclave.nsm)
    greeting = Greeting(enclave.policy())
    offer = enclave.answer(greeting)
    with pytest.raises(HandshakeRejected):
        greeting.verify(hello_response(offer, attestation_document=other.document(nonce_of(greeting))), now())


def test_answer_to_another_hello_is_caught() -> None:
    enclave = Enclave()
    first, second = Greeting(enclave.policy()), Greeting(enclave.policy())
    with pytest.raises(BindingMismatch):
        second.verify(enclave.answer(first).response, now())


def test_hello_altered_on_its_way_is_caught() -> None:
    enclave = Enclave()
    greeting = Greeting(enclave.policy())
    hello = ClientHello.FromString(greeting.request.client_hello)
    hello.fresh_attestation = False
    altered = Offer.answer(hello.SerializeToString(), enclave.document(hello.nonce), enclave.identity)
    with pytest.raises(HandshakeRejected):
        greeting.verify(altered.response, now())


def test_stale_document_is_refused() -> None:
    enclave = Enclave()
    greeting = Greeting(enclave.policy())
    offer = enclave.answer(greeting)
    with pytest.raises(AttestationError):
        greeting.verify(offer.response, now() + timedelta(seconds=301))


def test_document_without_nonce_serves_only_a_client_that_asked_for_none() -> None:
    enclave = Enclave()
    for fresh in (True, False):
        greeting = Greeting(enclave.policy(), fresh=fresh)
        offer = Offer.answer(greeting.request.client_hello, enclave.document(None), enclave.identity)
        if fresh:
            with pytest.raises(BindingMismatch):
                greeting.verify(offer.response, now())
        else:
            greeting.verify(offer.response, now()).open()


def test_enclave_that_names_other_models_than_it_attested_is_caught() -> None:
    enclave = Enclave(models=(ServedModel(model_id="m", version=2, manifest_digest=b"\x05" * 32),))
    with pytest.raises(BindingMismatch) as caught:
        open_session(enclave)
    assert caught.value.code == "MODEL_SET_MISMATCH"


def test_host_without_the_private_key_cannot_confirm_the_session() -> None:
    enclave = Enclave()
    greeting = Greeting(enclave.policy())
    offer = enclave.answer(greeting)
    pending = greeting.verify(offer.response, now()).open()
    accepted = offer.open(pending.request.encapsulated_key, None)
    _, own_key = generate_kem_key()
    public = Transcript(greeting.request.client_hello, offer.response.server_hello, offer.response.attestation_document)
    _, own_keys = encapsulate(own_key, public)
    finished = Finished(verify_data=own_keys.finished, limits=LIMITS, models=MODELS).SerializeToString()
    forged = own_keys.enclave_to_client.seal(finished, Position(Method.OPEN, 0))
    forged.session_id = accepted.response.finished.session_id
    with pytest.raises(FrameRejected):
        pending.confirm(OpenResponse(finished=forged))


@pytest.mark.parametrize(
    ("verify_data", "at"),
    [(bytes(32), Position(Method.OPEN, 0)), (b"", Position(Method.OPEN, 0)), (None, Position(Method.OPEN, 1))],
    ids=["wrong", "missing", "elsewhere"],
)
def test_authentic_frame_that_is_no_confirmation_is_refused(verify_data: bytes | None, at: Position) -> None:
    enclave = Enclave()
    greeting = Greeting(enclave.policy())
    pending = greeting.verify(enclave.answer(greeting).response, now()).open()
    keys = pending._keys
    confirmation = keys.finished if verify_data is None else verify_data
    finished = Finished(verify_data=confirmation, limits=LIMITS, models=MODELS).SerializeToString()
    with pytest.raises(FrameRejected):
        pending.confirm(OpenResponse(finished=keys.enclave_to_client.seal(finished, at)))


def test_transcript_covers_every_part() -> None:
    def lp(*parts: bytes) -> bytes:
        return hashlib.sha256(b"".join(struct.pack(">I", len(part)) + part for part in parts)).digest()

    transcript = Transcript(b"hello", b"answer", b"document", b"enc")
    assert transcript.signed == b"ephemeralml/1 hello" + lp(b"hello", b"answer")
    assert transcript.info == b"ephemeralml/1 session\x00\x01" + lp(b"hello", b"answer", b"document")
    assert transcript.hash == lp(b"hello", b"answer", b"document", b"enc")


def test_finished_of_another_session_is_refused() -> None:
    enclave = Enclave()
    greetings = [Greeting(enclave.policy()) for _ in range(2)]
    offers = [enclave.answer(greeting) for greeting in greetings]
    pendings = [g.verify(o.response, now()).open() for g, o in zip(greetings, offers, strict=True)]
    accepted = [o.open(p.request.encapsulated_key, None) for o, p in zip(offers, pendings, strict=True)]
    with pytest.raises(FrameRejected):
        pendings[0].confirm(accepted[1].response)


def test_altered_encapsulated_key_gives_no_session() -> None:
    enclave = Enclave()
    greeting = Greeting(enclave.policy())
    offer = enclave.answer(greeting)
    pending = greeting.verify(offer.response, now()).open()
    altered = bytearray(pending.request.encapsulated_key)
    altered[0] ^= 1
    with pytest.raises(FrameRejected):
        pending.confirm(offer.open(bytes(altered), None).response)


def test_more_models_than_any_enclave_serves_are_refused_before_they_are_hashed() -> None:
    enclave = Enclave(models=tuple(ServedModel(model_id=f"m{n}", version=1) for n in range(MAX_MODELS + 1)))
    greeting = Greeting(enclave.policy())
    offer = enclave.answer(greeting)
    pending = greeting.verify(offer.response, now()).open()
    finished = offer.open(pending.request.encapsulated_key, None).response
    with pytest.raises(FrameRejected):
        pending.confirm(finished)


def test_a_handshake_confirmed_twice_would_use_nonces_twice_and_is_a_bug_of_the_caller() -> None:
    enclave = Enclave()
    greeting = Greeting(enclave.policy())
    offer = enclave.answer(greeting)
    pending = greeting.verify(offer.response, now()).open()
    finished = offer.open(pending.request.encapsulated_key, None).response
    pending.confirm(finished)
    with pytest.raises(RuntimeError):
        pending.confirm(finished)


def test_offer_opens_once() -> None:
    enclave = Enclave()
    greeting = Greeting(enclave.policy())
    offer = enclave.answer(greeting)
    pending = greeting.verify(offer.response, now()).open()
    offer.open(pending.request.encapsulated_key, None)
    with pytest.raises(HandshakeRejected):
        offer.open(pending.request.encapsulated_key, None)


@pytest.mark.parametrize("key", LOW_ORDER, ids=lambda key: key.hex()[:8])
def test_low_order_keys_are_refused_by_both_ends(key: bytes) -> None:
    enclave = Enclave()
    offer = enclave.answer(Greeting(enclave.policy()))
    with pytest.raises(HandshakeRejected):
        offer.open(key, None)
    with pytest.raises(HandshakeRejected):
        encapsulate(key, Transcript(b"c", b"s", b"d"))


def test_unchecked_client_auth_is_refused_rather_than_ignored() -> None:
    enclave = Enclave()
    greeting = Greeting(enclave.policy())
    offer = enclave.answer(greeting)
    pending = greeting.verify(offer.response, now()).open()
    with pytest.raises(HandshakeRejected):
        offer.open(pending.request.encapsulated_key, SealedFrame())


@pytest.mark.parametrize(
    "hello",
    [
        b"",
        b"\xff" * 40,
        ClientHello(version=2, suites=[1], nonce=bytes(32)).SerializeToString(),
        ClientHello(version=1, suites=[], nonce=bytes(32)).SerializeToString(),
        ClientHello(version=1, suites=[2], nonce=bytes(32)).SerializeToString(),
        ClientHello(version=1, suites=[1], nonce=bytes(31)).SerializeToString(),
        ClientHello(version=1, suites=[1] * 2000, nonce=bytes(32)).SerializeToString(),
    ],
    ids=["empty", "junk", "version 2", "no suite", "unknown suite", "short nonce", "too large"],
)
def test_malformed_client_hello_is_refused(hello: bytes) -> None:
    with pytest.raises(HandshakeRejected):
        parse_client_hello(hello)


def test_no_two_transcripts_share_a_hash_by_moving_a_boundary() -> None:
    hashes = {Transcript(b"ab", b"c").hash, Transcript(b"a", b"bc").hash, Transcript(b"abc", b"").hash}
    assert len(hashes) == 3
