"""The measured enclave: attestation, key release, model decryption, inference, receipts.

Zone: trusted execution environment. No environment variables, no disk, no network: everything is baked into the image
or comes over VSock, and whatever comes over VSock is verified.
"""
