"""What every end of EphemeralML must agree on.

Zone: any. The modules here hold no key and see no plaintext; ``ephemeral.trusted`` does, and installs only with the
``[trusted]`` extra, which the host does not have.
"""
