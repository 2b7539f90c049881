"""Deliberate faults: the real classes with a few words of their source changed.

A fault is written as the lines it changes, so that nothing else can differ, and so that the table
shows what was done. If the source no longer has these lines, the fault refuses to be applied.
"""

import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any, cast


class Outdated(Exception):
    """The source does not hold the text that a fault wants to change, or holds it twice."""


@dataclass(frozen=True)
class Edit:
    """In the source of `owner.name`, a function, method or property, each `old` becomes `new`.

    An `old` must occur exactly once. Continuation lines are indented as in the dedented function.
    """

    owner: type | ModuleType
    name: str
    changes: tuple[tuple[str, str], ...]

    def function(self) -> FunctionType:
        """What is changed."""
        held = vars(self.owner)[self.name]
        if isinstance(held, property):
            held = held.fget
        elif isinstance(held, staticmethod):
            held = held.__func__
        assert isinstance(held, FunctionType), f"{self.where} is no function"
        return held

    def build(self) -> CodeType:
        """The changed code of the function. Raises Outdated."""
        function = self.function()
        source = textwrap.dedent(inspect.getsource(function))
        for old, new in self.changes:
            if source.count(old) != 1:
                raise Outdated(f"{self.where} has {source.count(old)} times: {old!r}")
            source = source.replace(old, new)
        made: dict[str, Any] = {}
        code = compile(source, f"<fault in {self.where}>", "exec")
        exec(code, vars(sys.modules[function.__module__]), made)
        changed = made[self.name]
        if isinstance(changed, property):
            changed = changed.fget
        elif isinstance(changed, staticmethod):
            changed = changed.__func__
        return cast("CodeType", changed.__code__)

    @property
    def where(self) -> str:
        """For people."""
        return f"{self.owner.__name__}.{self.name}"

    @contextmanager
    def apply(self) -> Iterator[None]:
        """The change is in force inside the block; afterwards the very same code is back.

        The code is exchanged inside the function, so that everyone who imported it has the fault.
        """
        function = self.function()
        code = function.__code__
        function.__code__ = self.build()
        try:
            yield
        finally:
            function.__code__ = code


def edit(owner: type | ModuleType, name: str, *changes: tuple[str, str]) -> Edit:
    """An Edit, with less ink."""
    return Edit(owner, name, changes)


@dataclass(frozen=True)
class Mutation:
    """One rule broken. `text` says which rule that is, and what may follow."""

    name: str
    text: str
    edits: tuple[Edit, ...]

    @contextmanager
    def apply(self) -> Iterator[None]:
        """A build with this fault, inside the block. Raises Outdated."""
        with ExitStack() as stack:
            for one in self.edits:
                stack.enter_context(one.apply())
            yield


def mutation(name: str, text: str, *edits: Edit) -> Mutation:
    """A Mutation, with less ink."""
    return Mutation(name, text, edits)
