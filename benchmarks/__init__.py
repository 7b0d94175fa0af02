"""Benchmarks: each figure beside what it is measured against, in the same run, with the commit and the machine.

::

    provenance.py    which code, which machine; without both nothing is printed
    report.py        the tables, as Markdown and as JSON
    rounds.py        interleaved rounds, ratios within a round, their median
    verification.py  documents, receipts and session set-up against the bare cryptography they cannot do without
    libraries.py     the same, once for each choice of libraries
    boot/            a model's way into the enclave, and the enclave's start, against what was asked for
    serving/         the sealed path under load against the same engine unsealed and against other servers
"""
