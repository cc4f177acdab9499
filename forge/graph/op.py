"""Declaring ops and their kernels. An op is a contract; a kernel is one way to carry it out.

    @op(types=..., reference=..., cost=..., cases=...)
    def swiglu(gate, up):
        '''y[T,F] = silu(gate[T,F]) * up[T,F]'''

    @swiglu.kernel(space=Space(BLOCK=(1024, 512), num_warps=(4, 8)))
    def swiglu_flat(site, y, gate, up): ...

Positional parameters are operands (`= None` marks one as optional) and keyword-only parameters are attributes.
The function itself has no body: types, oracle, cost and cases are the contract, and tests, benchmarks, the graph
builder and the eager call are made from them. A fused op is declared by `equals`, an expression in other ops, from
which its types, oracle, unfused cost and rewrite rule follow.
"""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from forge.errors import GraphError, ShapeError
from forge.graph import executor
from forge.graph.axes import Axes, Letters
from forge.graph.equals import Cost as Cost
from forge.graph.equals import Traceable, derived, roles_in
from forge.graph.parameters import Parameters
from forge.graph.types import TensorType

Types = tuple[TensorType | None, ...]
ROLES = ("activation", "weight", "bias", "state")


@dataclass(frozen=True)
class Case:
    """Operands to try an op on. `fills` maps an operand's name to `(generator, type) -> tensor`; the others are normal.

    `make(generator)` gives all operands at once where they depend on each other. `strided` operands get a row stride
    longer than the row. `small` cases are cheap enough for execution that is far slower than a device's.
    """

    name: str
    types: Types
    attrs: Mapping[str, Any] = field(default_factory=dict)
    fills: Mapping[str, Callable[[Any, TensorType], Any]] = field(default_factory=dict)
    make: Callable[[Any], Sequence[Any]] | None = None
    strided: bool = False
    small: bool = True


class Space:
    """The configurations a kernel can be tuned over: a product of named choices. The first of each is the default.

    `valid(point, call)` says which points can carry out a call; without it, all can.
    """

    def __init__(
        self, *, valid: Callable[[Mapping[str, Any], Call], bool] | None = None, **choices: Sequence[Any]
    ) -> None:
        self.choices = {name: tuple(values) for name, values in choices.items()}
        self._valid = valid

    @property
    def default(self) -> dict[str, Any]:
        return {name: values[0] for name, values in self.choices.items()}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for point in itertools.product(*self.choices.values()):
            yield dict(zip(self.choices, point, strict=True))

    def valid(self, point: Mapping[str, Any], call: Call) -> bool:
        """Whether `point` can carry out `call`."""
        return self._valid is None or self._valid(point, call)

    def points(self, call: Call) -> Iterator[dict[str, Any]]:
        """The points that can carry out `call`."""
        return (point for point in self if self.valid(point, call))

    def first(self, call: Call) -> dict[str, Any]:
        """The first of them, which is the default of that call. Raises GraphError if there is none."""
        for point in self.points(call):
            return point
        raise GraphError(f"no configuration is valid for {call.describe()}")

    def check(self, config: Mapping[str, Any]) -> None:
        """`config` must name every choice of the space and nothing else, each with one of the choice's values."""
        if config.keys() != self.choices.keys():
            raise GraphError(f"a configuration names {sorted(config)}; the space has {sorted(self.choices)}")
        for name, value in config.items():
            if not any(value == v and type(value) is type(v) for v in self.choices[name]):
                known = ", ".join(map(repr, self.choices[name]))
                raise GraphError(f"{name}={value!r} is not in the space", remedy=f"one of: {known}")


@dataclass(frozen=True)
class Call:
    """What a kernel is chosen by: concrete operand and result types, attributes and the target."""

    op: Op
    types: Types
    results: tuple[TensorType, ...]
    attrs: Mapping[str, Any]
    target: Any

    def describe(self) -> str:
        operands = ", ".join(f"{n}: {t}" for n, t in zip(self.op.operands, self.types, strict=True) if t is not None)
        attrs = "".join(f", {k}={v!r}" for k, v in self.attrs.items())
        return f"{self.op.name}({operands}{attrs}) on {self.target}"


@dataclass(frozen=True)
class Kernel:
    """One implementation of an op.

    `on` is the kind of target ("gpu" for Triton, "cpu" for torch) and `when` says what it can carry out there, by types
    and attributes.
    `build(site, *outputs, *operands, **attrs)` returns the steps that carry out a call: launches and callables.
    `workspace(call, config)` gives the types of scratch tensors that the build gets as `site.work`.
    `layouts(call)` maps a weight operand's name to the storage layouts it takes, best first.
    `rounds(call)` is the type that it rounds operands to, if to any: its results are no more exact than that type's.
    """

    op: Op
    name: str
    build: Callable[..., Any]
    space: Space
    on: str
    when: Callable[[Call], bool]
    workspace: Callable[[Call, Mapping[str, Any]], tuple[TensorType, ...]]
    layouts: Callable[[Call], Mapping[str, tuple[str, ...]]] | None
    rounds: Callable[[Call], str | None]

    def serves(self, call: Call) -> bool:
        return self.on == call.target.kind and self.when(call)

    @property
    def id(self) -> str:
        return f"{self.op.name}.{self.name}"


class Op:
    """The contract of an op. Immutable but for `kernels`, which grows while the op's own file is imported."""

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        types: Callable[..., Any],
        reference: Callable[..., Any],
        cost: Callable[..., Cost],
        cases: Callable[[], Sequence[Case]],
        equals: Callable[..., Any] | None,
        view: bool = False,
        writes: str | None = None,
        roles: Mapping[str, str] | None = None,
        axes: Mapping[str, Letters] | None = None,
        stacks: bool = False,
        results: int = 1,
        repeats: bool = False,
    ) -> None:
        self.name, self.doc, self.module = fn.__name__, inspect.getdoc(fn) or "", fn.__module__
        # An identifier that tells it from an op of the same name in another file.
        self.key = f"{self.module}__{self.name}".replace(".", "__")
        self.types, self.reference, self.cost, self.equals = types, reference, cost, equals
        self.view, self.writes, self.stacks, self.results = view, writes, stacks, results
        self.repeats = repeats
        self._cases = cases
        self.kernels: dict[str, Kernel] = {}
        self.parameters = Parameters(fn)
        self.signature, self.optional = self.parameters.signature, self.parameters.optional
        self.operands, self.attributes = self.parameters.operands, self.parameters.attributes
        self._roles = dict(roles or {})
        if not self.doc and sys.flags.optimize < 2:  # python -OO has dropped it
            raise GraphError(f"op {self.name} needs a docstring: its first line is its formula")
        for operand, role in self._roles.items():
            if operand not in self.operands or role not in ROLES:
                raise GraphError(f"op {self.name}: the operand {operand} cannot have the role {role!r}")

        if writes is not None and writes not in self.operands:
            raise GraphError(f"op {self.name} writes {writes!r}, which is no operand", remedy=", ".join(self.operands))
        self.axes = Axes(self.name, self.operands, axes)

    @cached_property
    def roles(self) -> Mapping[str, str]:
        """The operands' roles by name: "activation", "weight", "bias" or "state". Of a fused op, those within it."""
        return roles_in(self) | self._roles if self.equals else self._roles

    @property
    def cases(self) -> tuple[Case, ...]:
        return tuple(self._cases())

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """On graph values: append a node. On tensors: run now, on the device they are on."""
        operands, attrs = self.bind(args, kwargs)
        for operand in operands:
            if isinstance(operand, Traceable):
                return operand.trace(self, operands, attrs)
        return executor.run(self, operands, attrs)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Sort arguments into (operands, attributes) with defaults filled in. See `Parameters.bind`."""
        return self.parameters.bind(args, kwargs)

    def infer(self, types: Types, attrs: Mapping[str, Any]) -> tuple[TensorType, ...]:
        """The types of the results. Raises ShapeError that names the op and every operand."""
        try:
            if None in types:
                absent = [name for name, type in zip(self.operands, types, strict=True) if type is None]
                expect(set(absent) <= set(self.optional), f"{', '.join(absent)} must not be None")
            result = self.types(*types, **attrs)
        except GraphError as error:
            raise ShapeError(f"{self._shown(types, attrs)}: {error.what}", remedy=error.remedy) from None
        except (TypeError, ValueError, ArithmeticError) as error:  # a rule need not ask for the type of each attribute
            raise ShapeError(f"{self._shown(types, attrs)}: {type(error).__name__}: {error}") from error
        results = result if isinstance(result, tuple) else (result,)
        if not self.equals and len(results) != self.results:
            told = f"its type rule gives {len(results)} types, and it declares results={self.results}"
            raise GraphError(f"op {self.name}: {told}", where=self.module)
        return results

    def _shown(self, types: Types, attrs: Mapping[str, Any]) -> str:
        shown = [f"{n}: {t}" for n, t in zip(self.operands, types, strict=True) if t is not None]
        return f"{self.name}({', '.join([*shown, *(f'{k}={v!r}' for k, v in attrs.items())])})"

    def kernel(
        self,
        *,
        space: Space | None = None,
        on: str = "gpu",
        when: Callable[[Call], bool] = lambda call: True,
        workspace: Callable[[Call, Mapping[str, Any]], tuple[TensorType, ...]] = lambda call, config: (),
        layouts: Callable[[Call], Mapping[str, tuple[str, ...]]] | None = None,
        rounds: Callable[[Call], str | None] = lambda call: None,
    ) -> Callable[[Callable[..., Any]], Kernel]:
        """Declare a kernel of this op; where the tuning data say nothing, earlier ones are preferred. See `Kernel`."""

        def declare(build: Callable[..., Any]) -> Kernel:
            name = build.__name__
            if on not in ("gpu", "cpu"):
                raise GraphError(f"the kernel {name} of op {self.name} is on {on!r}", remedy="'gpu' or 'cpu'")
            if name in self.kernels:
                raise GraphError(f"op {self.name} has two kernels called {name}")
            self.kernels[name] = Kernel(self, name, build, space or Space(), on, when, workspace, layouts, rounds)
            return self.kernels[name]

        return declare


def op(
    *,
    types: Callable[..., Any] | None = None,
    reference: Callable[..., Any] | None = None,
    cost: Callable[..., Cost] | None = None,
    cases: Callable[[], Sequence[Case]] = tuple,
    equals: Callable[..., Any] | None = None,
    view: bool = False,
    writes: str | None = None,
    roles: Mapping[str, str] | None = None,
    axes: Mapping[str, Letters] | None = None,
    stacks: bool = False,
    results: int = 1,
    repeats: bool = False,
) -> Callable[[Callable[..., Any]], Op]:
    """Declare an op.

    types      `(*operand types, **attrs)` to the result's type or a tuple of them; raises ShapeError
    reference  the oracle: torch in fp32 on dense tensors, written for clarity
    cost       `(*operand types, **attrs)` to the compulsory `Cost`; with `equals`, the fused cost may be given
    cases      a function that lists the `Case`s
    equals     a fused op as an expression in other ops; gives whichever of the above is not passed
    view       the result is a view of the first operand; the reference is also its implementation
    writes     the name of the state operand that a call consumes; its next version is the first result
    roles      what operands are: "activation", "weight", "bias" or "state"; passes ask for these, not for an op's name
    axes       the letters of each operand's axes, as {"x": "TK", "w": "NK"}: what tuning tells sizes apart by
    stacks     whether a weight (and bias) of more rows gives the results of each side by side, along the last axis
    results    how many results a call has, of an op without `equals`
    repeats    whether calls are fused though others read what they hide: its kernels do without, so nothing is repeated
    """

    def declare(fn: Callable[..., Any]) -> Op:
        given = {"types": types, "reference": reference, "cost": cost}
        follow = derived(equals) if equals else {}
        parts = {k: v or follow.get(k) for k, v in given.items()}
        missing = [k for k, v in parts.items() if v is None]
        if missing:
            raise GraphError(f"op {fn.__name__} lacks {', '.join(missing)}")
        more = dict(view=view, writes=writes, roles=roles, axes=axes, stacks=stacks, results=results, repeats=repeats)
        return Op(fn, cases=cases, equals=equals, **parts, **more)  # type: ignore[arg-type]

    return declare


def expect(condition: bool, message: str, remedy: str = "") -> None:
    """For type rules: raise ShapeError(message) unless `condition`; `Op.infer` adds the op and its operands."""
    if not condition:
        raise ShapeError(message, remedy=remedy)
