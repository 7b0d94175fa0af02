"""How to mend what each code of an error names, for the FAIL lines of a report."""

from collections.abc import Mapping
from typing import Final

ORIGINAL: Final = "get the original bytes from whoever holds them; if these are the original, do not rely on them."
_NOT_OURS: Final = "do not rely on it; an honest enclave and client never make this."
_ASK_OPERATOR: Final = "ask the operator of the enclave what changed, and trust nothing it said meanwhile."

_FIXES: Final[Mapping[str, str]] = {
    # Attestation documents: format.
    "ATTESTATION": _ASK_OPERATOR,
    "MALFORMED_DOCUMENT": ORIGINAL,
    "MALFORMED_ENVELOPE": "check that FILE is an attestation document (COSE_Sign1; raw, hex or base64) and complete.",
    "WRONG_ALGORITHM": _NOT_OURS,
    "UNPROTECTED_HEADER": _NOT_OURS,
    "MALFORMED_SIGNATURE": ORIGINAL,
    "MALFORMED_PAYLOAD": ORIGINAL,
    # Origin.
    "ROOT_NOT_PINNED": "if it is a SIMULATED document, use its stack's trust file; otherwise do not rely on it.",
    "UNTRUSTED_CHAIN": _NOT_OURS,
    "CHAIN_LENGTH": _NOT_OURS,
    "CERTIFICATE_MALFORMED": ORIGINAL,
    "CERTIFICATE_ALGORITHM": _NOT_OURS,
    "CERTIFICATE_EXTENSION": _NOT_OURS,
    "CERTIFICATE_NOT_YET_VALID": "set this machine's clock.",
    "CERTIFICATE_EXPIRED": "for a document that was kept, use --archive; a live enclave must show a new one.",
    "CERTIFICATE_NOT_CA": _NOT_OURS,
    "CERTIFICATE_USAGE": _NOT_OURS,
    "CERTIFICATE_PATH_LENGTH": _NOT_OURS,
    "LEAF_IS_CA": _NOT_OURS,
    "CERTIFICATE_NOT_ISSUED": _NOT_OURS,
    "FORGED_DOCUMENT": ORIGINAL,
    "TIMESTAMP_OUTSIDE_LEAF": _NOT_OURS,
    "STALE_DOCUMENT": "for a document that was kept, use --archive; a live enclave must show a new one.",
    "FUTURE_DOCUMENT": "set this machine's clock; if it is right, do not rely on the document.",
    # Measurements and policy.
    "PCR_MISSING": _NOT_OURS,
    "DEBUG_ENCLAVE": "run the enclave without --debug-mode; no policy can accept a debug enclave.",
    "MEASUREMENT_MISMATCH": "if you reviewed this build, add its PCR0, PCR1 and PCR2 to the policy; otherwise stop.",
    "BUILD_NOT_YET_ACCEPTED": "wait for not_before of that build, or get a newer policy from who maintains it.",
    "BUILD_NO_LONGER_ACCEPTED": "let the operator run a current build; the old one's window in the policy is over.",
    "POLICY_EXPIRED": "get a newer policy from whoever maintains it, or set this machine's clock.",
    "MODEL_NOT_ACCEPTED": "if you accept this model, name it in [[models]] of the policy.",
    "MODEL_ROLLBACK": "let the operator serve the version that the policy wants, or later.",
    "MODEL_MANIFEST": "if the new manifest was reviewed, pin its manifest_sha256; otherwise stop.",
    # Bindings.
    "BINDING_MISMATCH": _NOT_OURS,
    "MISSING_NONCE": "ask the enclave for a fresh document with a nonce.",
    "NONCE_MISMATCH": "it was made for another challenge: check the nonce you gave; otherwise do not rely on it.",
    "MISSING_USER_DATA": "it is no session document of this system; --any-purpose leaves the binding out.",
    "MALFORMED_BINDING": "it is no session document of this system; --any-purpose leaves the binding out.",
    "WRONG_PURPOSE": "it was made for something else, KMS for example; --any-purpose leaves the binding out.",
    "MISSING_PUBLIC_KEY": "it is no session document of this system; --any-purpose leaves the binding out.",
    "KEY_REJECTED": _NOT_OURS,
    "MODEL_SET_MISMATCH": _ASK_OPERATOR,
    "BUILD_MISMATCH": _ASK_OPERATOR,
    # Handshake.
    "HANDSHAKE_REJECTED": "something between you and the enclave altered the handshake: try another way to it.",
    "BAD_SERVER_HELLO": "check that the address is an EphemeralML service of protocol 1.",
    "HELLO_SIGNATURE": "something between you and the enclave altered the handshake: try another way to it.",
    "BAD_KEM_KEY": _ASK_OPERATOR,
    "FRAME_REJECTED": "something between you and the enclave altered the handshake: try another way to it.",
    # The enclave's own security module.
    "NSM_ANSWER": _ASK_OPERATOR,
    "NSM_REFUSED": _ASK_OPERATOR,
    "NSM_UNREACHABLE": _ASK_OPERATOR,
    # Receipts.
    "RECEIPT": ORIGINAL,
    "RECEIPT_MISSING": _ASK_OPERATOR,
    "RECEIPT_TOO_LARGE": "check that FILE is a receipt: one has at most 65,536 bytes.",
    "COSE_DECODE_FAILED": "check that FILE is a receipt (COSE_Sign1 with tag 18; raw, hex or base64) and complete.",
    "NON_EMPTY_UNPROTECTED": _NOT_OURS,
    "BAD_ALG": "AIR v1 receipts are signed with EdDSA only; ask the issuer for a conforming one.",
    "BAD_CONTENT_TYPE": "AIR v1 receipts are CWTs (content type 61); check that FILE is a receipt.",
    "MISSING_PAYLOAD": ORIGINAL,
    "PAYLOAD_NOT_MAP": "the claims must be one deterministic CBOR map; ask the issuer for a conforming receipt.",
    "WRONG_PROFILE": "it follows another profile than AIR v1: verify it with that profile's tools.",
    "MISSING_CLAIM": "ask the issuer for a receipt with every claim of AIR v1.",
    "WRONG_TYPE": "ask the issuer for a receipt whose claims have the types of AIR v1.",
    "UNKNOWN_CLAIM": "AIR v1 is closed: ask the issuer for a receipt without claims of its own.",
    "BAD_SIG_LENGTH": ORIGINAL,
    "SIG_FAILED": "check that the document or --key belongs to this receipt; otherwise do not rely on it.",
    "BAD_CTI_LENGTH": "ask the issuer for a conforming receipt: cti has 16 bytes.",
    "BAD_HASH_LENGTH": "ask the issuer for a conforming receipt: hashes are SHA-256, 32 bytes.",
    "ZERO_MODEL_HASH": "it names no model: ask the issuer what ran.",
    "BAD_MEASUREMENT_LENGTH": "ask the issuer for a conforming receipt: measurements have 48 bytes.",
    "UNKNOWN_MTYPE": "ask the issuer for a receipt of a platform that AIR v1 knows.",
    "UNKNOWN_MODEL_HASH_SCHEME": "ask the issuer for a receipt with a scheme that AIR v1 knows.",
    "UNKNOWN_SECURITY_MODE": (
        "AIR v1 knows production and evaluation. GatewayOnly and ShieldMode are from before it was frozen: have it "
        "issued anew by a current enclave."
    ),
    "TIMESTAMP_FUTURE": "set this machine's clock; if it is right, do not rely on the receipt.",
    "TIMESTAMP_STALE": "ask for a newer receipt, or allow a greater age.",
    "MODEL_ID_MISMATCH": "it is the receipt of another model's answer.",
    "MODEL_HASH_MISMATCH": "it is the receipt of an answer by another manifest's model.",
    "REQUEST_HASH_MISMATCH": "it is the receipt of another request.",
    "RESPONSE_HASH_MISMATCH": "it is the receipt of another answer, or the answer was changed.",
    "ATTESTATION_DOC_HASH_MISMATCH": "give the attestation document of the session that answered.",
    "MEASUREMENTS_MISMATCH": "receipt and document are of different enclaves: give those of one session.",
    "SEQUENCE_MISMATCH": "it is the receipt of another answer of this session.",
    "SECURITY_MODE_MISMATCH": _NOT_OURS,
    "EVALUATION_MODE_REJECTED": (
        "it comes from a simulated enclave: verify it with --document and a policy that names its evaluation root."
    ),
    "PLATFORM_MISMATCH": "it comes from another kind of hardware than expected.",
    "NONCE_MISSING": "the receipt carries no nonce: ask for an answer in a session with one.",
    "REPLAY_CTI": "this receipt was accepted before: it is no second answer.",
    # Manifests.
    "MANIFEST": ORIGINAL,
    "MANIFEST_MALFORMED": "check that FILE is a signed model manifest (COSE_Sign1; raw, hex or base64) and complete.",
    "MANIFEST_UNKNOWN_PUBLISHER": "if you trust who signed it, name the key in [[publishers]]; otherwise stop.",
    "MANIFEST_FORGED": ORIGINAL,
    "MANIFEST_OTHER_MODEL": _ASK_OPERATOR,
    "MANIFEST_OTHER_DRAFT": "sign the draft that lies beside the container, or encrypt again.",
    "MANIFEST_PRESENT": "move the other manifest away, or sign into a folder of its own.",
    "DRAFT_MALFORMED": "encrypt the model again: the draft was changed after `model encrypt` wrote it.",
    "MODEL_CHANGED": "publish under a higher version: one version of a model is one manifest.",
    "MODEL_DOWNGRADE": "publish a higher version: an enclave never goes back while it serves.",
    "NO_ENGINE": "pip install 'ephemeralml[replay]' on the machine that computes the answer again.",
    "VERSION_TAKEN": "publish under a higher version: what was published never changes.",
    "MANIFEST_DIGEST": _ASK_OPERATOR,
    "MODEL_NOT_ADMITTED": "build an enclave image whose configuration admits the model.",
    # Bundles and reports.
    "EVIDENCE": ORIGINAL,
    "INCOMPLETE": "give what the skipped checks ask for.",
    "BUNDLE_MALFORMED": "check that FILE is a bundle (ephemeralml embed --bundle-out) and complete.",
    "BUNDLE_VERSION": "it is of another format: verify it with the version of ephemeralml that wrote it.",
    "BUNDLE_DAMAGED": ORIGINAL,
    "BUNDLE_POLICY": (
        "verify under the policy that the client used; if you mean to judge by your own, say --other-policy."
    ),
    "BUNDLE_MANIFEST": "its parts are not of one answer: do not rely on it.",
    "BUNDLE_MODEL_SET": "its parts are not of one answer: do not rely on it.",
    "REPLAY_MODEL": "give --replay the folder that was published as this version of the model.",
    "REPLAY_MESSAGES": "only answers with embeddings can be computed again.",
    "REPLAY_REFUSED": "install the release of ephemeralml-enclave that the bundle names.",
    "REPLAY_DIFFERENT": (
        "the receipt holds, so nobody changed the answer on its way: the enclave computed something else. Compare the "
        "versions that the bundle names with those installed here; if they are the same, do not rely on the answer."
    ),
    "BUNDLE_BUILD": "its parts are not of one answer: do not rely on it.",
    # Proofs of a log.
    "LOG_PROOF": "ask the log for the proof again, for exactly this entry and these sizes.",
    "LOG_NOT_INCLUDED": "ask the log for a proof under exactly this head; if it has none, the entry is not in it.",
    "LOG_NOT_CONSISTENT": "keep both heads: unless another proof joins them, the log changed what it had promised.",
}


def fix_of(code: str) -> str:
    """Return how to mend what `code` names; what follows a colon in a code is the claim, not the rule."""
    return _FIXES.get(code.partition(":")[0], ORIGINAL)


def explained(code: str) -> bool:
    """Say whether `code` has a text of its own."""
    return code.partition(":")[0] in _FIXES
