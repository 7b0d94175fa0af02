"""The untrusted host: it moves bytes and holds AWS credentials, and has nothing to read them with.

Zone: untrusted. No cipher is installed beside this package, and none of its modules imports ``ephemeral.trusted``.
"""
