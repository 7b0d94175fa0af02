"""A model's way into the enclave, and the enclave's start on the development stack.

::

    sealed.py       all-MiniLM-L6-v2 as a publisher seals it, with a data key that the benchmark knows
    memory_host.py  a host that serves it from memory: the emulated S3 is slower than what is measured
    loading.py      a fresh process that fetches, decrypts and builds it, and what memory that takes
    starting.py     the enclave's process from its start until it serves, beside every zone of the stack
    suite.py        both, and the table
"""
