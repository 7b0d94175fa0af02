"""All files of the pack, as bytes: the same each time."""

import json
from hashlib import sha256
from pathlib import Path

from tests.refusals import (
    chains,
    cms,
    containers,
    documents,
    frames,
    manifests,
    policies,
    receipts,
    recipients,
    signed_policies,
)
from tests.refusals.case import VERSION, Family

DATA = Path(__file__).parents[2] / "clients" / "python" / "ephemeralml" / "selftest" / "data"
MODULES = (documents, chains, recipients, receipts, manifests, cms, frames, containers, policies, signed_policies)
FAMILIES: dict[str, Family] = {module.FAMILY.name: module.FAMILY for module in MODULES}


def pack() -> dict[str, bytes]:
    """Return each file by name, the index last."""
    files = {f"{name}.json": family.file() for name, family in FAMILIES.items()}
    families = {name: {"sha256": sha256(files[f"{name}.json"]).hexdigest()} for name in FAMILIES}
    index = {"families": families, "version": VERSION}
    return {**files, "pack.json": (json.dumps(index, indent=1, sort_keys=True) + "\n").encode()}
