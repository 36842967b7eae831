"""Which mutants of a source file there are: cosmic-ray's operators, and four more.

Left alone is what changes nothing that a test could see: annotations, decorators, the text of
messages, what a `raise` says, and keywords that matter on another machine only or are guards and
labels.
"""

from __future__ import annotations

import ast
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

import parso
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider
from parso.python.tree import Keyword
from typing_extensions import override

_FROM_COSMIC_RAY = [
    *(
        f"ReplaceBinaryOperator_{names}"
        for names in (
            *("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv"),
            *("Pow_Mul", "LShift_RShift", "RShift_LShift", "BitAnd_BitOr", "BitOr_BitAnd"),
        )
    ),
    *(
        f"ReplaceComparisonOperator_{names}"
        for names in (
            *("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt"),
            *("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is"),
        )
    ),
    *(f"ReplaceUnaryOperator_{names}" for names in ("USub_UAdd", "Delete_Invert", "Delete_Not")),
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr"),
    *("ReplaceOrWithAnd", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
    *("NumberReplacer", "ZeroIterationForLoop"),
]
# The device matters on another machine only, `strict` is a guard, and the rest an order that
# nobody asked for or words on a progress bar.
_KEYWORDS_LEFT_ALONE = {"device", "strict", "sorted", "desc", "unit"}
_COMMUTE = {"min", "max", "minimum", "maximum", "promote_types"}
_ASSIGNMENTS = {"+=": "-=", "-=": "+=", "*=": "/=", "/=": "*=", "|=": "&=", "&=": "|="}


@dataclass(frozen=True)
class Mutant:
    """One change of a source file.

    Attributes:
        line: the first line that changes, counted from 1.
        function: the function or class it stands in, "" at the top of the module.
        original: the lines that change, without indentation and line ends.
        mutated: what becomes of them.
        source: the whole file, mutated.
    """

    line: int
    function: str
    original: str
    mutated: str
    source: str = field(repr=False)

    @property
    def key(self) -> str:
        """What names it in the file, also when other lines move it."""
        return f"{self.function}: {self.original} → {self.mutated}"


class _Replacement(Operator):
    """What the operators below share."""

    @classmethod
    @override
    def examples(cls) -> tuple[()]:
        return ()


class AugmentedAssignment(_Replacement):
    """`+=` becomes `-=`, and so on."""

    @override
    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "operator" and node.value in _ASSIGNMENTS:
            yield node.start_pos, node.end_pos

    @override
    def mutate(self, node: Any, index: int) -> Any:
        node.value = _ASSIGNMENTS[node.value]
        return node


class DropCall(_Replacement):
    """A call whose value nobody uses is left out."""

    @override
    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if (
            node.type in ("atom_expr", "power")
            and node.parent.type == "simple_stmt"
            and node.children[-1].type == "trailer"
            and node.children[-1].children[0] == "("
        ):
            yield node.start_pos, node.end_pos

    @override
    def mutate(self, node: Any, index: int) -> Any:
        return Keyword("pass", node.start_pos, node.get_first_leaf().prefix)


class DropKeyword(_Replacement):
    """A keyword argument of a call is left out, so that its default holds."""

    @override
    def mutation_positions(self, node: Any) -> Iterator[Any]:
        for argument in self._keywords(node):
            yield argument.start_pos, argument.end_pos

    @override
    def mutate(self, node: Any, index: int) -> Any:
        argument = list(self._keywords(node))[index]
        place = node.children.index(argument)
        if node.type == "trailer":
            del node.children[place]
        else:  # with the comma before it, or the one behind it
            del node.children[max(place - 1, 0) : max(place - 1, 0) + 2]
        return node

    @staticmethod
    def _keywords(node: Any) -> Iterator[Any]:
        if node.type == "trailer" or (node.type == "arglist" and node.parent.type == "trailer"):
            for child in node.children:
                if child.type == "argument" and child.children[1] == "=":
                    yield child


class SwapArguments(_Replacement):
    """The first two arguments of a call change places."""

    @override
    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "arglist" and node.parent.type == "trailer":
            first, second = node.children[0], node.children[2:3]
            called = node.parent.get_previous_leaf().value
            if second and "argument" not in (first.type, second[0].type) and called not in _COMMUTE:
                yield node.start_pos, second[0].end_pos

    @override
    def mutate(self, node: Any, index: int) -> Any:
        first, second = node.children[0], node.children[2]
        ours, theirs = first.get_first_leaf(), second.get_first_leaf()
        ours.prefix, theirs.prefix = theirs.prefix, ours.prefix
        node.children[0], node.children[2] = second, first
        return node


_PROVIDER = OperatorProvider()
OPERATORS: list[Operator] = [
    *(_PROVIDER[name]() for name in _FROM_COSMIC_RAY),
    *(AugmentedAssignment(), DropCall(), DropKeyword(), SwapArguments()),
]


def mutants_of(source: str) -> list[Mutant]:
    """All mutants of a module, in the order of their lines; of equal ones the first."""
    tree = ast.parse(source)
    left_alone = [_span(node, source) for node in _left_alone(tree)]
    functions = list(_functions(tree))
    dumped, parsed = ast.dump(tree), parso.parse(source)
    found: dict[str, Mutant] = {}
    for operator in OPERATORS:
        for occurrence, (node, start, end) in enumerate(_positions(parsed, operator)):
            if _is_redundant(operator, node):
                continue
            if any(first <= start and end <= last for first, last in left_alone):
                continue
            mutated = MutationVisitor.mutate_code(source, operator, occurrence)
            if _means_the_same(dumped, mutated):
                continue
            line, old, new = _changed_lines(source, mutated)
            mutant = Mutant(line, _innermost(functions, line), old, new, mutated)
            found.setdefault(mutant.key, mutant)
    return sorted(found.values(), key=lambda mutant: (mutant.line, mutant.mutated))


def statement_lines(source: str, line: int) -> range:
    """The lines of the statement around a line; of one with a body those above the body.

    Empty for what runs when the module is imported.
    """
    lines = range(0)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for statement in ast.walk(node):
                if statement is not node and isinstance(statement, ast.stmt):
                    span = _own_lines(statement)
                    if line in span and (not lines or len(span) < len(lines)):
                        lines = span
    return lines


def _own_lines(statement: ast.stmt) -> range:
    body = getattr(statement, "body", None)
    end = body[0].lineno - 1 if body else statement.end_lineno or statement.lineno
    return range(statement.lineno, max(end, statement.lineno) + 1)


def _positions(node: Any, operator: Operator) -> Generator[Any]:
    """Where an operator applies, in the order in which cosmic-ray counts occurrences."""
    for start, end in operator.mutation_positions(node):
        yield node, start, end
    for child in getattr(node, "children", ()):
        yield from _positions(child, operator)


def _is_redundant(operator: Operator, node: Any) -> bool:
    """Whether another operator does the same: `not a < b` is `a >= b`, and `-1` a number."""
    if type(operator).__name__ == "AddNot":
        condition = node.children[1 if node.type != "test" else 2]
        return condition.type == "comparison" and condition.children[1].get_code().strip() != "in"
    return type(operator).__name__.endswith("USub_UAdd") and node.children[1].type == "number"


def _left_alone(tree: ast.Module) -> Iterator[ast.expr | ast.stmt | ast.keyword]:
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Raise, ast.JoinedStr))
            or isinstance(node, ast.keyword)
            and node.arg in _KEYWORDS_LEFT_ALONE
        ):
            yield node
        yield from getattr(node, "decorator_list", [])
        for annotation in ("annotation", "returns"):
            if getattr(node, annotation, None) is not None:
                yield getattr(node, annotation)


def _span(node: Any, source: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Start and end as (line, column), columns in characters as parso counts them."""
    lines = source.splitlines()

    def column(line: int, in_bytes: int) -> int:
        return len(lines[line - 1].encode()[:in_bytes].decode())

    return (
        (node.lineno, column(node.lineno, node.col_offset)),
        (node.end_lineno, column(node.end_lineno, node.end_col_offset)),
    )


def _means_the_same(dumped: str, mutated: str) -> bool:
    """Whether the parser sees no difference, or no Python."""
    try:
        return ast.dump(ast.parse(mutated)) == dumped
    except SyntaxError:
        return True


def _changed_lines(source: str, mutated: str) -> tuple[int, str, str]:
    old, new = source.splitlines(), mutated.splitlines()
    opcodes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    changes = [opcode for opcode in opcodes if opcode[0] != "equal"]
    (_, i, _, j, _), (_, _, i_end, _, j_end) = changes[0], changes[-1]

    def joined(lines: list[str]) -> str:
        return " ".join(" ".join(line.split("  #")[0] for line in lines).split())

    return i + 1, joined(old[i:i_end]), joined(new[j:j_end])


def _functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[range, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = f"{prefix}{child.name}"
            yield range(child.lineno, (child.end_lineno or child.lineno) + 1), name
            yield from _functions(child, f"{name}.")
        else:
            yield from _functions(child, prefix)


def _innermost(functions: list[tuple[range, str]], line: int) -> str:
    around = [(len(lines), name) for lines, name in functions if line in lines]
    return min(around)[1] if around else ""
