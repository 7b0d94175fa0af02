"""A SIMULATED AWS KMS that enforces what KMS enforces: key policies, encryption contexts and attested recipients.

It speaks AWS JSON 1.1 to unmodified AWS SDKs, checks their signatures (SigV4), verifies attestation documents with the
product's own verifier against a development root, and answers a Recipient with CMS in KMS's own byte layout. What it
lacks is hardware: its keys live in this process's memory and end with it.
"""
