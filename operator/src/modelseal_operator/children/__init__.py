"""The objects that exist because an EncryptedModel exists, as pure functions of it."""

from modelseal_operator.children.build import Context, build_children

__all__ = ["Context", "build_children"]
