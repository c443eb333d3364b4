"""What the name of a base means on this machine: one of our own trainings, an alias, a hub id or a path."""

from __future__ import annotations

from tuneport.errors import ModelNotFound
from tuneport.local import Folder
from tuneport.plugin import local_path
from tuneport_torch.bases import ALIASES, Base, resolve


def resolve_base(name: str, *, trust_remote_code: bool = False) -> Base:
    """The base that a name means here: one of our tuned models, an alias, a hub id or a path."""
    return resolve(stable_name(name), trust_remote_code=trust_remote_code)


def stable_name(name: str) -> str:
    """The name that means the same from any working folder."""
    if not is_job(name):
        return str(local_path(name).absolute()) if name.startswith((".", "~", "/")) else name
    folder = Folder.named("torch", name)
    if not folder.model.exists():
        raise ModelNotFound(f"{folder.ref} has no model yet.", remedy=f"Check its status: tuneport show {folder.ref}")
    return str(folder.model)


def is_job(name: str) -> bool:
    """Whether a name is that of a training here."""
    return name not in ALIASES and Folder.can_have(name) and Folder.named("torch", name).exists
