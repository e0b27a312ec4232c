"""Python source as facts: what text an expression gives, as far as that can be told without running it."""

from __future__ import annotations

import ast
import re
from functools import cached_property
from pathlib import PurePosixPath

UNKNOWN = "*"
# Type parameters (Python 3.12) are all that keeps an older Python from parsing OpenMates' files.
_TYPE_PARAMETERS = re.compile(r"^(\s*(?:async\s+)?(?:def|class)\s+\w+)\[[^\]\n]*\]", re.MULTILINE)
_GETTERS = ("os.getenv", "getenv", "os.environ.get", "environ.get")


class Module:
    """One source file, parsed when it is first looked into."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.text = path, text
        self.unread = ""  # why it could not be parsed, when it was tried; its tree is empty then

    @cached_property
    def tree(self) -> ast.Module:
        try:
            return ast.parse(self.text)
        except (SyntaxError, ValueError):
            try:
                return ast.parse(_TYPE_PARAMETERS.sub(r"\1", self.text))
            except (SyntaxError, ValueError) as error:
                self.unread = str(error)
                return ast.parse("")

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def calls(self) -> list[ast.Call]:
        return [node for node in self.nodes if isinstance(node, ast.Call)]

    @cached_property
    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        return [node for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]

    @cached_property
    def names(self) -> dict[str, str]:
        """Text by the name it is assigned to, for names (also `self.x`) that have one value in the whole file."""
        values: dict[str, set[str]] = {}
        known = self.__dict__["names"] = {}  # while this runs, a name is what it was first seen to be
        for node in self.nodes:
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                target, value = node.targets[0], node.value
            elif isinstance(node, ast.AnnAssign) and node.value:
                target, value = node.target, node.value
            else:
                continue
            name = target.id if isinstance(target, ast.Name) else getattr(target, "attr", "")
            if name:
                text = self.pattern(value) or UNKNOWN
                values.setdefault(name, set()).add(text)
                known.setdefault(name, text)
        return {name: next(iter(found)) for name, found in values.items() if len(found) == 1}

    def place(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 0)}"

    def pattern(self, node: ast.AST | None) -> str | None:
        """The text that an expression gives, `*` for each part that is not known; None if it is no text."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else None
        if isinstance(node, ast.JoinedStr):
            return "".join(self.pattern(part) or UNKNOWN for part in node.values)
        if isinstance(node, ast.FormattedValue):
            return self.pattern(node.value) or UNKNOWN
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            return self.names.get(node.attr)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Div):
            parts = [self.pattern(node.left), self.pattern(node.right)]
            joint = "" if isinstance(node.op, ast.Add) else "/"
            return joint.join(part or UNKNOWN for part in parts) if any(parts) else None
        if isinstance(node, ast.Call):
            return self._of_call(node)
        return None

    def _of_call(self, node: ast.Call) -> str | None:
        name = dotted(node.func)
        arguments = [self.pattern(argument) for argument in node.args]
        if name in _GETTERS:
            return arguments[1] if len(arguments) > 1 else None
        if name.split(".")[-1] in ("Path", "str") and len(arguments) == 1:
            return arguments[0]
        if name.endswith("path.join") and any(arguments):
            return str(PurePosixPath(*(argument or UNKNOWN for argument in arguments)))
        if name.endswith("path.dirname") and arguments and arguments[0]:
            return str(PurePosixPath(arguments[0]).parent)
        return None


def dotted(node: ast.AST) -> str:
    """`a.b.c` of such an expression; what is before a call or an index is left out."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else node.attr
    return ""
