"""Benchmarks: each figure beside the floor it is measured against, in the same run, with the commit and the machine.

::

    provenance.py    which code, which machine; without both nothing is printed
    rounds.py        interleaved rounds, ratios within a round, their median
    report.py        the table, as Markdown and as JSON
    libraries.py     the suite, once for each choice of libraries
    verification.py  documents, receipts and session set-up against the bare cryptography they cannot do without
"""
