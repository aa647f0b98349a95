"""A function's syntax in a form of our own: the same for all versions of Python, layouts, comments and annotations."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType, FunctionType

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

# What changes no value: annotations, which are not evaluated where it matters, and notes of the parser.
_WITHOUT_MEANING = frozenset({"annotation", "returns", "type_comment", "type_params", "kind", "ctx"})


def syntax_of(function: FunctionType) -> str | None:
    """Arguments and body of `function`, without its name, decorators and defaults; None where there is no source."""
    code = function.__code__
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename, function.__globals__)
    found = [node for node in _definitions("".join(lines)) if _first_line(node) == code.co_firstlineno]
    same = [node for node in found if _is_of(node, code)]
    return _function_text(same[0]) if len(same) == 1 else None


@lru_cache(maxsize=64)
def _definitions(source: str) -> tuple[_Definition, ...]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ()
    return tuple(node for node in ast.walk(tree) if isinstance(node, _Definition))


def _first_line(node: _Definition) -> int:
    """The line that the interpreter calls the function's first: its first decorator's, if it has one."""
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min(part.lineno for part in (node, *decorators))


def _is_of(node: _Definition, code: CodeType) -> bool:
    """Whether `code` was made from `node`. Lambdas of one line are told apart by where their bodies lie."""
    if not isinstance(node, ast.Lambda):
        return node.name == code.co_name
    body = (node.body.lineno, node.body.end_lineno, node.body.col_offset, node.body.end_col_offset)
    return code.co_name == "<lambda>" and body in set(code.co_positions())


def _function_text(node: _Definition) -> str:
    arguments = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args)]
    stars = [f"{kind}{arg.arg}" for kind, arg in (("*", node.args.vararg), ("**", node.args.kwarg)) if arg]
    named = [arg.arg for arg in node.args.kwonlyargs]
    return f"{len(node.args.posonlyargs)} {arguments} {named} {stars} {_text(node.body)}"


def _text(value: object) -> str:
    if isinstance(value, ast.AST):
        return f"{type(value).__name__}({' '.join(_fields(value))})"
    if isinstance(value, list):
        return f"[{' '.join(_text(item) for item in value if not _is_remark(item))}]"
    return repr(value)


def _fields(node: ast.AST) -> Iterator[str]:
    """The fields that hold something: later versions of Python add fields that are mostly empty."""
    for name, value in ast.iter_fields(node):
        if name not in _WITHOUT_MEANING and value is not None and value != []:
            yield f"{name}={_text(value)}"


def _is_remark(item: object) -> bool:
    """Whether a statement is a docstring, or another constant that does nothing."""
    return isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)
