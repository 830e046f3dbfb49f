"""What a live object is made of: code, arguments, values and weights, told by one digest.

A model can hold a loss as a lambda, functions in a list, values that they close over. Each of these
decides what comes of a fold. What an object holds is followed part by part, of classes and
functions of the user also what they reach by name (``features.fingerprint``); of those of a library
the file that they stand in, and what was set on a class at run time. What a global names that
cannot be told from another of its kind, such as a lock, counts by its kind. Any other such part is
named, so that nothing is taken for the same that may have changed.
"""

import hashlib
import logging
import types
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from btc_datamodule.datamodule import BTCDataModule
from btc_datamodule.errors import ConfigError
from btc_datamodule.features.fingerprint import find_parts, hash_source
from btc_datamodule.features.reaching import (
    Reached,
    is_own_class,
    is_own_file,
    is_own_module,
    list_members,
)

MOST, DEEPEST = 200_000, 150
"""Parts of an object, and levels of parts, that are looked at; what comes after is not told."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), type(NotImplemented))

_BY_KIND = (logging.Logger, Trainer, RemovableHandle)
"""Hold what is of the process, such as counts and its number, and decide no forecast."""


class Identity(NamedTuple):
    """What an object is made of.

    Attributes:
        digest: SHA-256 in hexadecimal, the same in every process that makes the object alike.
        unknown: parts that cannot be told from others of their kind, such as ``rng: Generator``.
    """

    digest: str
    unknown: tuple[str, ...]


def identify(thing: Any) -> Identity:
    """What an object is made of, in depth."""
    walk = _Walk()
    digest = walk.digest(thing, ()).hex()
    rest = ("what lies deeper, or comes later, than is looked at",) if walk.is_cut else ()
    return Identity(digest, (*dict.fromkeys(walk.unknown), *rest))


class _Walk:
    """Goes through the parts of an object, each once."""

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.is_cut = False
        self._known: dict[int, tuple[int, Any]] = {}  # holds each, so that no id comes twice

    def digest(self, thing: Any, path: tuple[str, ...]) -> bytes:
        """Digest of a thing; ``path`` has the names by which it was come to."""
        if isinstance(thing, Reached):
            return self._digest_reached(thing, path)
        digest = hashlib.sha256(f"{type(thing).__module__}.{type(thing).__qualname__}".encode())
        if type(thing) in _PLAIN:
            digest.update(repr(thing).encode())
            return digest.digest()
        if id(thing) in self._known:
            digest.update(str(self._known[id(thing)][0]).encode())
            return digest.digest()
        self._known[id(thing)] = len(self._known), thing
        if isinstance(thing, set | frozenset):  # whose order says nothing
            digest.update(b"".join(sorted(self._digest_alone(part, path) for part in thing)))
        elif len(self._known) > MOST or len(path) > DEEPEST:
            self.is_cut = True
        else:
            for name, part in self._list_parts(thing, path):
                digest.update(self.digest(part, (*path, name)))
        return digest.digest()

    def _list_parts(self, thing: Any, path: tuple[str, ...]) -> list[tuple[str, Any]]:
        """The parts of a thing, each with the name that it has there."""
        try:
            return list(_name_parts(thing))
        except Exception:  # whatever a class raises that cannot be pickled, or looked at
            where = ".".join([name for name in path if name][-3:])
            self.unknown.append(f"{where}: {type(thing).__name__}".removeprefix(": "))
            return []

    def _digest_alone(self, part: Any, path: tuple[str, ...]) -> bytes:
        """Digest of a part of something without order: what came before it does not count."""
        walk = _Walk()
        walk._known = dict(self._known)
        digest = walk.digest(part, path)
        self.unknown += walk.unknown
        self.is_cut |= walk.is_cut
        return digest

    def _digest_reached(self, reached: Reached, path: tuple[str, ...]) -> bytes:
        """Digest of what code names: by its kind if it cannot be told from another."""
        value, before = reached.value, len(self.unknown)
        if isinstance(value, types.ModuleType) and id(value) not in self._known:
            self._known[id(value)] = len(self._known), value
            own = is_own_module(value)
            members = list_members(value, reached.names) if own else []
            value = [value.__name__, hash_source(value) if own else b"", members]
        digest = self.digest(value, path)
        if len(self.unknown) == before:
            return digest
        del self.unknown[before:]
        kind = [type(value).__qualname__, str(getattr(value, "__name__", ""))]
        return hashlib.sha256(repr(kind).encode()).digest()


def _name_parts(thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, torch.Tensor):
        yield from _unname(_list_tensor(thing))
    elif isinstance(thing, BTCDataModule):  # whose rows and settings are told beside
        yield "settings", thing.settings.comparable
    elif isinstance(thing, weakref.ref):
        yield "", thing()
    elif isinstance(thing, _BY_KIND) or _is_file_system(thing):
        yield "", getattr(thing, "name", "")
    elif isinstance(thing, type):
        yield from _unname(find_parts(thing) if is_own_class(thing) else _list_library_class(thing))
    elif isinstance(thing, types.FunctionType) and not is_own_file(thing.__code__.co_filename):
        yield "", f"{thing.__module__}.{thing.__qualname__}"
        yield "", hash_source(thing)
        yield "", (thing.__defaults__, thing.__kwdefaults__)
        yield "", [cell.cell_contents for cell in thing.__closure__ or ()]
    elif type(thing) is dict:
        for key, value in thing.items():
            yield "", key
            yield key if isinstance(key, str) else "", value
    else:
        yield from _list_held(thing)


def _is_file_system(thing: Any) -> bool:
    """Whether it is one of fsspec, by which callbacks of Lightning write."""
    return any(str(each.__module__).partition(".")[0] == "fsspec" for each in type(thing).__mro__)


def _unname(parts: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    return (("", part) for part in parts)


def _list_held(thing: Any) -> Iterator[tuple[str, Any]]:
    """Parts of an object: its class, its attributes, and what else pickle would write of it."""
    yield "", type(thing)
    if find_parts.dispatch(type(thing)) is not find_parts.dispatch(object) or hasattr(
        thing, "meta"
    ):
        yield from _unname(find_parts(thing))
        return
    held = getattr(thing, "__dict__", {})
    for name, value in held.items():
        is_hooks = isinstance(thing, torch.nn.Module) and "_hooks" in name
        yield name, [*value.values()] if is_hooks and isinstance(value, dict) else value
    reduced = thing.__reduce_ex__(4)
    if isinstance(reduced, str):
        yield "", reduced
        return
    make, arguments, state, *items = (*reduced, None)[:5] if len(reduced) > 2 else (*reduced, None)
    yield "", getattr(make, "__qualname__", str(make))
    yield from _unname(part for part in arguments if part is not type(thing))
    if not (held and isinstance(state, dict)):
        yield "", state
    yield from _unname(list(each) if each is not None else None for each in items)


def _list_tensor(tensor: torch.Tensor) -> Iterator[Any]:
    """Parts of a tensor; a lazy one gets its values from the first batch."""
    yield from (type(tensor), str(tensor.dtype), tensor.requires_grad, vars(tensor))
    if is_lazy(tensor):
        return
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise ConfigError("a sparse or quantized tensor cannot be told from another")
    yield tuple(tensor.shape)
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    yield hashlib.sha256(flat.view(torch.uint8).numpy().data).digest()


def _list_library_class(kind: type) -> Iterator[Any]:
    """Parts of a class of a library: its file, what stands in it, what a user has put there."""
    yield from (kind.__module__, kind.__qualname__, hash_source(kind), kind.__bases__)
    for name, member in vars(kind).items():
        code = getattr(member, "__code__", None)
        is_plain = type(member) in _PLAIN and not name.startswith("_")
        if is_plain or (code is not None and is_own_file(code.co_filename)):
            yield name, member
