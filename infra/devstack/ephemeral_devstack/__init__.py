"""Every zone on one machine, each its own process on loopback, with a SIMULATED security module and KMS.

It speaks the real protocols and enforces what the real services enforce. What it cannot give is a hardware root of
trust: its root is made at start-up, no production policy accepts it, and every receipt under it says "evaluation".
"""
