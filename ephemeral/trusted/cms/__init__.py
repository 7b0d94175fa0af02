"""KMS's CiphertextForRecipient: opened once, with a key made for one answer.

KMS answers an attested Decrypt with a CMS EnvelopedData (RFC 5652) sealed to the RSA key in the attestation document.
Nothing in it is authenticated: the host carries the document and the answer, so it can seal any data key of its own to
that key, and CBC padding is an oracle for whoever can ask twice. Hence: one exact shape, one error, one use, and the
caller believes the data key only when it matches the commitment in the signed manifest.
"""

from ephemeral.trusted.cms.recipient import RecipientKey

__all__ = ["RecipientKey"]
