"""Keys and plaintext: what only the client and the measured enclave may run.

Zone: client and enclave. Nothing here does IO: bytes and a clock come in, verified types or typed errors come out.
"""
