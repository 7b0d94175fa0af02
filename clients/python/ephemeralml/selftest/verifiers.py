"""How each family is verified: by the public functions that an application calls, and by nothing else."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    RSAPublicNumbers,
    rsa_crt_dmp1,
    rsa_crt_dmq1,
    rsa_crt_iqmp,
)

from ephemeral.errors import ForgedRelease
from ephemeral.protocol import Method
from ephemeral.trusted.artifact import ContainerInfo, ContainerOpener, ModelFile, split_files
from ephemeral.trusted.attestation import verify_archived_enclave, verify_enclave, verify_recipient
from ephemeral.trusted.channel import Answer, ClientChannel, EnclaveChannel, lanes
from ephemeral.trusted.cms import RecipientKey
from ephemeral.trusted.ed25519 import VerifyingKey
from ephemeral.trusted.manifest import verify_manifest
from ephemeral.trusted.policy import TrustPolicy, verify_policy
from ephemeral.trusted.receipt import EnclaveMeasurements, ReceiptExpectations, verify_receipt
from ephemeral.trusted.secrets import SecretBytes
from ephemeral.wire import SealedFrame

Context = Mapping[str, Any]


def document(raw: bytes, context: Context) -> None:
    """Verify an attestation document as a client, an auditor or KMS does."""
    policy, now = TrustPolicy.parse(context["policy"]), datetime.fromisoformat(context["now"])
    match context["verify"]:
        case "enclave":
            nonce = context["nonce"]
            verify_enclave(raw, policy, nonce=None if nonce is None else bytes.fromhex(nonce), now=now)
        case "archived":
            verify_archived_enclave(raw, policy)
        case "recipient":
            verify_recipient(raw, policy.roots, now=now, max_age=policy.max_document_age)
        case other:
            raise ValueError(f"no way to verify a document as {other!r}")


def receipt(raw: bytes, context: Context) -> None:
    """Verify a receipt against what a client demands of it."""
    key, now = VerifyingKey(bytes.fromhex(context["key"])), datetime.fromisoformat(context["now"])
    verify_receipt(raw, key, _expectations(context["expected"]), now=now)


def _expectations(demands: Context) -> ReceiptExpectations:
    values = {name: _DEMANDS.get(name, _same)(value) for name, value in demands.items()}
    if "max_age_seconds" in values:
        values["max_age"] = timedelta(seconds=values.pop("max_age_seconds"))
    return ReceiptExpectations(**values)


def _same(value: Any) -> Any:  # noqa: ANN401  # a text or a number of the data, handed on
    return value


def _measurements(values: Context) -> EnclaveMeasurements:
    registers = {name: bytes.fromhex(value) for name, value in values.items() if name != "measurement_type"}
    return EnclaveMeasurements(**registers, measurement_type=values["measurement_type"])


_DEMANDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("model_hash", "request_hash", "response_hash", "attestation_doc_hash", "nonce"), bytes.fromhex),
    "measurements": _measurements,
    "seen_cti": lambda ids: {bytes.fromhex(one) for one in ids},
}


def manifest(raw: bytes, context: Context) -> None:
    """Verify a model manifest under the publishers that are trusted."""
    verify_manifest(raw, [VerifyingKey(bytes.fromhex(key)) for key in context["publishers"]])


def kms_answer(raw: bytes, context: Context) -> None:
    """Open KMS's answer with a key made for one, after the answers that came before it."""
    key = context["public_test_recipient"]
    recipient = RecipientKey(_rsa_key(int(key["p"], 16), int(key["q"], 16), key["e"]))
    for earlier in context["before"]:
        with suppress(ForgedRelease):
            recipient.open(bytes.fromhex(earlier))
    recipient.open(raw)


@lru_cache(maxsize=1)
def _rsa_key(p: int, q: int, e: int) -> RSAPrivateKey:
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = RSAPublicNumbers(e, p * q)
    return RSAPrivateNumbers(p, q, d, rsa_crt_dmp1(d, p), rsa_crt_dmq1(d, q), rsa_crt_iqmp(p, q), numbers).private_key()


def frame(raw: bytes, context: Context) -> None:
    """Open a frame at one end of a session, after the frames that came before it."""
    session = {name: bytes.fromhex(value) for name, value in context["public_test_session"].items()}
    outgoing, incoming = lanes(session["client_to_enclave"], session["enclave_to_client"], session["session_id"])
    method = Method[context["method"]]
    frames = [SealedFrame.FromString(one) for one in (*map(bytes.fromhex, context["before"]), raw)]
    if context["end"] == "enclave":
        enclave = EnclaveChannel(outgoing, incoming)
        for one in frames:
            enclave.open(one, method)
        return
    answer = _awaited(ClientChannel(outgoing, incoming), method, context["request"])
    for one in frames:
        answer.open(one)
    answer.finish()


def _awaited(client: ClientChannel, method: Method, request: int) -> Answer:
    return [client.seal(b"", method) for _ in range(request)][-1]


def container(raw: bytes, context: Context) -> None:
    """Open a model container and prove each of its files."""
    info = dict(context["container"])
    for name in ("sha256", "container_id"):
        info[name] = bytes.fromhex(info[name])
    files = [ModelFile(file["name"], bytes.fromhex(file["sha256"]), file["size"]) for file in context["files"]]
    data_key = SecretBytes(bytes.fromhex(context["public_test_data_key"]))
    opener = ContainerOpener(ContainerInfo(**info), sum(file.size for file in files), data_key)
    opener.push(raw)
    split_files(opener.finish(), files)


def policy(raw: bytes, _context: Context) -> None:
    """Parse a trust policy."""
    TrustPolicy.parse(raw.decode())


def signed_policy(raw: bytes, context: Context) -> None:
    """Verify a signed trust policy under the signer that is pinned for it."""
    signer = VerifyingKey(bytes.fromhex(context["signer"]))
    verify_policy(raw, signer, now=datetime.fromisoformat(context["now"]))


VERIFIERS: Final[Mapping[str, Callable[[bytes, Context], None]]] = {
    "documents": document,
    "chains": document,
    "recipients": document,
    "receipts": receipt,
    "manifests": manifest,
    "cms": kms_answer,
    "frames": frame,
    "containers": container,
    "policies": policy,
    "signed-policies": signed_policy,
}
