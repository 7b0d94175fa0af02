"""Serving under load: the whole sealed path, the same engine without it, and two servers that anybody can install.

::

    generator (a process of its own) ──▶ sealed     relay ▶ enclave of the development stack
                                     ──▶ unsealed   the same engine and batcher behind a bare gRPC service
                                     ──▶ infinity   infinity-emb from PyPI, in an environment of its own
                                     ──▶ fastapi    FastAPI and sentence-transformers, as one writes it in an hour

All four are up in a round, on the same cores and with the same weights; their load windows take turns, seconds apart.
Whoever is not asked sleeps.
"""
