"""What each check of a report is for, in words; `fixes` holds those of the codes.

Ids and codes are stable (docs/SPEC.md sections 5.4, 11.3, 12.2 and 17); a test walks the trusted code and finds a text
here for every one of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ephemeralml.fixes import ORIGINAL


@dataclass(frozen=True, slots=True)
class CheckText:
    """A check in words: its title, why it matters, and how to get it checked when it was skipped."""

    title: str
    why: str
    get_checked: str


_GIVE_TRUST: Final = "give --trust FILE with the measurements, models and publishers you accept."
_WITH_PLAINTEXT: Final = "verify a bundle that its owner wrote with --include-plaintext."

CHECKS: Final[Mapping[str, CheckText]] = {
    "ATT-01": CheckText(
        "Document format", "one reading only: bytes that two programs read differently prove nothing.", ORIGINAL
    ),
    "ATT-02": CheckText(
        "Root of trust",
        "anybody can make a chain of certificates; only the pinned root stands for the hardware's maker.",
        _GIVE_TRUST,
    ),
    "ATT-03": CheckText(
        "Certificate chain", "it leads from that root to the key of this one enclave's security module.", ORIGINAL
    ),
    "ATT-04": CheckText("Signature", "not one bit of the document was changed after the hardware signed it.", ORIGINAL),
    "ATT-05": CheckText(
        "Time", "an old document may speak for an enclave that is long gone.", "verify with or without --archive."
    ),
    "ATT-06": CheckText(
        "Not a debug enclave", "the host can read the memory of a debug enclave, whatever it attests.", _GIVE_TRUST
    ),
    "ATT-07": CheckText(
        "Measurements", "hardware vouches for any code that runs there; only these hashes say which.", _GIVE_TRUST
    ),
    "ATT-08": CheckText(
        "Nonce",
        "without one's own nonce, a document made for somebody else or earlier looks the same.",
        "choose a nonce when you ask for a document; --nonce HEX compares it.",
    ),
    "ATT-09": CheckText(
        "Purpose and bound digests",
        "it binds the session's identity key, boot configuration, models and build to the hardware's word.",
        "give --trust FILE, and leave out --origin-only and --any-purpose.",
    ),
    "ATT-10": CheckText(
        "Receipt key",
        "receipts are worth something only under a key that the attested enclave holds.",
        "give --trust FILE, and leave out --origin-only and --any-purpose.",
    ),
    "ATT-11": CheckText(
        "Recipient key", "KMS encrypts the model's data key to it; anybody else's key would give the model away.", ""
    ),
    "session.hello": CheckText(
        "Handshake signature", "the attested identity key vouches for this very handshake and its encryption key.", ""
    ),
    "session.keys": CheckText(
        "Key confirmation", "the enclave showed that it holds the session's keys: nobody sits in between.", ""
    ),
    "session.models": CheckText("Served models", "the models it names are the ones it attested.", ""),
    "policy.model": CheckText(
        "Accepted model",
        "an accepted build may serve many models, old versions among them; the policy says which may answer.",
        "name [[models]] in the policy.",
    ),
    "policy.digest": CheckText(
        "Same policy",
        "it shows under which rules the client accepted the enclave when it asked.",
        "verify under the policy that the client used.",
    ),
    "receipt.key": CheckText(
        "Attested key",
        "a key given by hand says who signed only as far as you know whose key it is.",
        "give --document FILE and --trust FILE instead of --key.",
    ),
    "receipt.form": CheckText(
        "Form of AIR v1", "one reading only: claims that two programs read differently prove nothing.", ORIGINAL
    ),
    "receipt.signature": CheckText(
        "Signature", "only the holder of the receipt key could make it, and nobody changed it since.", ORIGINAL
    ),
    "receipt.claims": CheckText(
        "Well-formed claims", "a claim outside the profile's closed set of values means nothing that is agreed.", ""
    ),
    "receipt.iat": CheckText("Time of issue", "a receipt from the future, or one too old, is not this answer's.", ""),
    "receipt.model_id": CheckText("Model id", "it is the model that was asked for.", _WITH_PLAINTEXT),
    "receipt.model_hash": CheckText(
        "Model hash",
        "it is the digest of the signed manifest, which fixes weights, tokenizer and configuration.",
        "verify a bundle, which holds the manifest.",
    ),
    "receipt.request_hash": CheckText(
        "Request hash", "it ties the receipt to one request, byte for byte.", _WITH_PLAINTEXT
    ),
    "receipt.response_hash": CheckText(
        "Response hash", "it ties the receipt to one answer, byte for byte.", _WITH_PLAINTEXT
    ),
    "receipt.attestation_doc_hash": CheckText(
        "Attestation document", "it names the document that vouches for the key which signed the receipt.", ""
    ),
    "receipt.measurements": CheckText("Measurements", "the build that answered is the build that was attested.", ""),
    "receipt.sequence_number": CheckText(
        "Place in the session", "it tells one answer of a session from another.", "only the client that asked knows it."
    ),
    "receipt.security_mode": CheckText(
        "Security mode", "evaluation means a simulated root: nothing is proven about hardware.", ""
    ),
    "receipt.eat_nonce": CheckText(
        "Client's nonce", "it ties the receipt to the session of one client.", "give --nonce HEX if you chose one."
    ),
    "receipt.cti": CheckText(
        "Not seen before",
        "one receipt shown twice is one answer, not two.",
        "compare cti with those you have accepted.",
    ),
    "manifest.form": CheckText(
        "Form", "one reading only: bytes that two programs read differently fix nothing.", ORIGINAL
    ),
    "manifest.publisher": CheckText(
        "Publisher", "a manifest is its publisher's word on what the model is.", "name [[publishers]] in --trust."
    ),
    "manifest.signature": CheckText(
        "Publisher's signature", "only the publisher could make it.", "name [[publishers]] in --trust."
    ),
    "manifest.schema": CheckText(
        "Schema", "it fixes each file by its SHA-256, and nothing is left to choose.", ORIGINAL
    ),
    "manifest.digest": CheckText(
        "Manifest of the receipt",
        "the receipt's model_hash is this manifest's digest, so its file hashes are those of what ran.",
        "",
    ),
    "bundle.form": CheckText(
        "Bundle format", "one reading only, closed schema: nothing can hide in the file.", ORIGINAL
    ),
    "bundle.digest": CheckText(
        "Undamaged", "damage is found before anything is believed. This is a checksum, not a signature.", ORIGINAL
    ),
    "document.models": CheckText(
        "Attested models", "the enclave attested this set of models before it answered; the manifest is among them.", ""
    ),
    "build.digest": CheckText(
        "Engine build", "the versions stated are those that the enclave attested: libraries, engine, configuration.", ""
    ),
    "replay.model": CheckText(
        "Model of the replay", "what is computed again must be the very model that the receipt names.", _WITH_PLAINTEXT
    ),
    "replay.vectors": CheckText(
        "Answer computed again",
        "a receipt says what the enclave answered; computing it again shows that the model gives that answer.",
        _WITH_PLAINTEXT,
    ),
    "build.policy": CheckText(
        "Enclave's own policy", "the configuration the receipt names is the one that the attested build holds.", ""
    ),
}


def check_text(check: str) -> CheckText:
    """Return the words for a check id."""
    return CHECKS[check]
