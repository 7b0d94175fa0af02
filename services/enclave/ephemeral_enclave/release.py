"""Data-key release: one attestation document, one RSA key, one answer from KMS."""

import asyncio
from hmac import compare_digest

from ephemeral.errors import ForgedRelease, KmsUnavailable
from ephemeral.protocol import DEK_BYTES
from ephemeral.trusted.attestation import KmsBinding
from ephemeral.trusted.cms import RecipientKey
from ephemeral.trusted.manifest import VerifiedManifest, dek_commitment
from ephemeral.trusted.secrets import SecretBytes
from ephemeral_enclave.fetch import ATTEMPTS, pause
from ephemeral_enclave.host_client import HostClient
from ephemeral_enclave.nsm import SecurityModule


class RecipientKeys:
    """RSA keys, one for each call to KMS, made in a thread while something else is waited for."""

    def __init__(self, expected: int) -> None:
        """Begin to make the first of `expected` keys; each that is taken begins the next."""
        self._expected = expected
        self._next = self._begin()

    async def take(self) -> RecipientKey:
        """Return a key that nobody else gets; more than were expected are made when asked for."""
        making = self._next or asyncio.create_task(asyncio.to_thread(RecipientKey.generate))
        self._next = self._begin()
        return await making

    def _begin(self) -> "asyncio.Task[RecipientKey] | None":
        if self._expected <= 0:
            return None
        self._expected -= 1
        return asyncio.create_task(asyncio.to_thread(RecipientKey.generate))


async def release_data_key(
    verified: VerifiedManifest, module: SecurityModule, host: HostClient, keys: RecipientKeys
) -> SecretBytes:
    """Obtain the data key that the signed manifest commits to, trying again while KMS is unavailable.

    Raises:
        KmsDenied: KMS refuses; not tried again.
        KmsUnavailable: KMS did not answer after some attempts.
        ForgedRelease: the answer is no such key; one error, without detail, and not tried again.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return await _release(verified, module, host, await keys.take())
        except KmsUnavailable:
            await pause(attempt)
    return await _release(verified, module, host, await keys.take())


async def _release(
    verified: VerifiedManifest, module: SecurityModule, host: HostClient, recipient: RecipientKey
) -> SecretBytes:
    """Make one attempt.

    1. take an RSA key that opens one answer and no second
    2. attest it, for this manifest and for this purpose only
    3. let KMS decide; the host forwards the call with its own credentials
    4. open the answer: anybody could have made it, since the RSA key is public
    5. so compare it with the commitment in the signed manifest before it is used for anything
    """
    manifest = verified.manifest
    binding = KmsBinding(verified.digest).encode()
    document = await asyncio.to_thread(
        lambda: module.attest(public_key=recipient.spki_der, user_data=binding, nonce=None)
    )  # 2
    answer = await host.decrypt(
        manifest.kms.key_arn, manifest.kms.wrapped_data_key, manifest.encryption_context, document
    )  # 3
    data_key = recipient.open(answer)  # 4
    committed = compare_digest(dek_commitment(data_key), manifest.kms.dek_commitment)  # 5
    if not committed or len(data_key) != DEK_BYTES:
        data_key.wipe()
        raise ForgedRelease(
            "KMS's answer was refused"
        )  # the same words as step 4: which step failed is nobody's business
    return data_key
