"""Fuzzing of every parser that sees hostile bytes: `make fuzz`. tests/fuzz replays the corpora without atheris."""
