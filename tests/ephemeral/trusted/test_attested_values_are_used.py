"""What is attested is what is used (INV-3): every value in a session's document is held against the one in use."""

from dataclasses import dataclass, replace

import pytest

from ephemeral.errors import BindingMismatch, EphemeralError, HandshakeRejected
from ephemeral.protocol import Method
from ephemeral.trusted.attestation import SessionBinding
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.handshake import Greeting
from ephemeral.trusted.manifest import model_set_digest
from ephemeral.wire import HelloResponse, ServedModel, ServerHello
from tests.support.invariants import tally
from tests.support.peers import MODELS, Enclave, now, open_session


@dataclass
class Misattested(Enclave):
    """An enclave whose module attests something other than what it uses."""

    attested: SessionBinding | None = None

    @property
    def binding(self) -> SessionBinding:
        return self.attested or super().binding


def refused(enclave: Enclave, error: type[EphemeralError]) -> str:
    with tally("INV-3", 1), pytest.raises(error) as caught:
        open_session(enclave)
    return caught.value.code


def test_live_session_uses_the_keys_and_models_of_its_document() -> None:
    enclave = Enclave()
    session, _ = open_session(enclave)
    document, binding = session.enclave.document, session.enclave.binding
    served = model_set_digest((model.model_id, model.version, model.manifest_digest) for model in session.models)
    with tally("INV-3", 4):
        assert session.enclave.receipt_key.raw == document.public_key == enclave.receipt_key.verifying_key.raw
        assert binding.identity_key == enclave.identity_key.verifying_key
        assert served == binding.model_set_digest
        assert SessionBinding.parse(document.user_data or b"") == binding == enclave.binding


def test_identity_key_that_was_not_attested_opens_no_session() -> None:
    honest = Enclave()
    other = replace(honest.binding, identity_key=SigningKey.generate().verifying_key)
    assert refused(Misattested(attested=other), HandshakeRejected) == "HELLO_SIGNATURE"


@pytest.mark.parametrize(
    "models",
    [
        (),
        (ServedModel(model_id="m", version=2, manifest_digest=b"\x05" * 32),),
        (ServedModel(model_id="n", version=1, manifest_digest=b"\x05" * 32),),
        (ServedModel(model_id="m", version=1, manifest_digest=b"\x06" * 32),),
        (*MODELS, ServedModel(model_id="n", version=1, manifest_digest=b"\x05" * 32)),
        MODELS * 2,
    ],
    ids=["none", "version", "name", "manifest", "one more", "twice"],
)
def test_models_that_were_not_attested_open_no_session(models: tuple[ServedModel, ...]) -> None:
    assert refused(Enclave(models=models), BindingMismatch) == "MODEL_SET_MISMATCH"


def test_every_byte_of_the_hpke_key_is_vouched_for() -> None:
    enclave = Enclave()
    greeting = Greeting(enclave.policy())
    response = enclave.answer(greeting).response
    hello = ServerHello.FromString(response.server_hello)
    key = hello.kem_public_key
    with tally("INV-3") as tried:
        for place in range(len(key)):
            hello.kem_public_key = key[:place] + bytes([key[place] ^ 1]) + key[place + 1 :]
            altered = HelloResponse()
            altered.CopyFrom(response)
            altered.server_hello = hello.SerializeToString(deterministic=True)
            tried.case()
            with pytest.raises(HandshakeRejected) as caught:
                greeting.verify(altered, now())
            assert caught.value.code == "HELLO_SIGNATURE"


def test_two_boots_are_told_apart_by_their_attested_keys() -> None:
    one, _ = open_session(Enclave())
    two, _ = open_session(Enclave())
    assert one.enclave.receipt_key != two.enclave.receipt_key
    assert one.enclave.binding.identity_key != two.enclave.binding.identity_key
    assert one.channel.seal(b"", Method.INFER).frame.session_id != two.channel.seal(b"", Method.INFER).frame.session_id
