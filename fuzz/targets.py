"""Every parser that sees hostile bytes, by name."""

from typing import Final

from fuzz import documents, files, sealed, signed
from fuzz.target import Target

TARGETS: Final[dict[str, Target]] = {
    target.name: target for part in (signed, documents, sealed, files) for target in part.TARGETS
}
