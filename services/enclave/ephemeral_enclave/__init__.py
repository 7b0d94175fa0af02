"""The measured enclave: attestation, key release, model decryption, inference, receipts.

Zone: trusted execution environment. No environment variables, no disk, no network: everything is baked into the image
or comes over VSock, and whatever comes over VSock is verified.
"""

import os

# Threads of a matrix product that wait for each other would spin, on the very cores that carry the requests: one small
# product then took seventy times as long. Read once, when torch is loaded, so it stands before every import of it.
os.environ["OMP_WAIT_POLICY"] = "passive"
