"""The reference of the Python client, written from its signatures and docstrings."""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from textwrap import dedent
from typing import Any

from reference_text import fenced, page, plain, table

import kvstore.client

_HEAD = """\
# Python client

Every public name of `kvstore.client`. How to use them, with examples, is in
[Python client and command line](../client.md).
"""
_BLOCKING = "Blocking"
_CLASS = re.compile(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z_])")
"""The modules in front of a name."""
_UNPACKED = re.compile(r"\*<class '([\w.]+)'>")
"""How Python shows `Unpack[...]`."""
_WIDTH = 88
Names = dict[str, Any]


def python_page() -> str:
    """The page."""
    names = {name: getattr(kvstore.client, name) for name in kvstore.client.__all__}
    classes = {name: one for name, one in names.items() if inspect.isclass(one)}
    errors = {name: one for name, one in classes.items() if issubclass(one, Exception)}
    blocking = {name: one for name, one in classes.items() if name.startswith(_BLOCKING)}
    usual = {n: one for n, one in classes.items() if n not in errors and n not in blocking}
    parts = [_HEAD]
    for name in sorted(usual, key=lambda name: name != "Client"):
        parts += _class(name, usual[name])
    parts += _functions({name: one for name, one in names.items() if name not in classes})
    parts.append(f"## Blocking\n\n{_text(kvstore.client.BlockingClient)}")
    for name, one in blocking.items():
        lines = [f"class {name}:", *(f"    {line}" for line in _outline(one))]
        parts += [f"### {name}", fenced("\n".join(lines), "python")]
    parts.append("## Errors")
    rows = ((f"`{n}`", f"`{one.__bases__[0].__name__}`", _first(one)) for n, one in errors.items())
    parts.append(table(("error", "is a", "meaning"), rows))
    return page(parts)


def _class(name: str, one: type) -> Iterator[str]:
    yield f"## {name}"
    if "__init__" in vars(one) or not _fields(one):
        yield fenced(_signature(name, one), "python")
    yield _text(one)
    yield table(
        ("field", "type", "meaning"),
        ((f"`{field}`", f"`{kind}`", plain(doc)) for field, kind, doc in _fields(one)),
    )
    for method, found in _members(one):
        yield f"### {name}.{method}"
        if isinstance(found, property):
            yield _text(found)
        else:
            yield fenced(_signature(method, found), "python")
            yield _text(found)


def _functions(names: Names) -> Iterator[str]:
    """Functions, and types that are no classes."""
    yield "## Operations and comparisons"
    for name, one in names.items():
        yield f"### {name}"
        if callable(one):
            yield fenced(_signature(name, one), "python")
            yield _text(one)
        else:
            yield fenced(f"{name} = {_short(str(one))}", "python")


def _outline(one: type) -> Iterator[str]:
    for name, found in _members(one):
        if isinstance(found, property):
            yield f"{name}: property"
        else:
            yield from _signature(name, found).splitlines()


def _members(one: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties, inherited ones of ours too, in the order of the sources."""
    found: Names = {}
    for parent in reversed(one.__mro__):
        if parent.__module__.startswith("kvstore."):
            found |= {name: value for name, value in vars(parent).items() if name[:1] != "_"}
    for name, value in found.items():
        bare = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if isinstance(bare, property) or inspect.isfunction(bare):
            yield name, bare


def _fields(one: type) -> list[tuple[str, str, str]]:
    """Public annotated fields: name, type, and the docstring below it."""
    found = {}
    for parent in reversed(one.__mro__):
        if not parent.__module__.startswith("kvstore."):
            continue
        body = ast.parse(dedent(inspect.getsource(parent))).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, after in zip(body.body, [*body.body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                name = statement.target.id
                if not name.startswith("_"):
                    found[name] = (ast.unparse(statement.annotation), _docstring(after))
    return [(name, kind, doc) for name, (kind, doc) in found.items()]


def _docstring(statement: ast.stmt | None) -> str:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return str(statement.value.value)
    return ""


def _signature(name: str, one: Callable[..., Any]) -> str:
    """As it stands in the source, on several lines if it is long."""
    signature = inspect.signature(one)
    parameters = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    signature = signature.replace(parameters=parameters)
    prefix = "async def " if inspect.iscoroutinefunction(one) else "def "
    if inspect.isclass(one):
        prefix, signature = "", signature.replace(return_annotation=signature.empty)
    line = _short(f"{prefix}{name}{signature}")
    if len(line) <= _WIDTH:
        return line
    shown, keyword_only = [], False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            if not any(p.kind is p.VAR_POSITIONAL for p in parameters):
                shown.append("*")
        shown.append(str(parameter))
    _, arrow, answer = str(signature).rpartition(" -> ")
    inner = "".join(f"    {_short(one)},\n" for one in shown)
    return f"{prefix}{name}(\n{inner}){_short(arrow + answer) if arrow else ''}"


def _short(text: str) -> str:
    """Annotations as one writes them: without modules."""
    return _CLASS.sub("", _UNPACKED.sub(r"Unpack[\1]", text))


# -- docstrings -------------------------------------------------------------------------------


def _doc(one: Any) -> str:
    return inspect.getdoc(one) or ""


def _first(one: Any) -> str:
    return plain(_doc(one).partition("\n\n")[0].replace("\n", " "))


def _text(one: Any) -> str:
    """A docstring as Markdown: an example is what is indented after `::`."""
    parts = []
    for block in re.split(r"\n\n+", _doc(one)):
        if block.startswith("    "):
            parts.append(fenced(dedent(block), "python"))
        elif block.strip() != "::":
            parts.append(plain(re.sub(r"::$", ":", block)))
    return "\n\n".join(parts)
