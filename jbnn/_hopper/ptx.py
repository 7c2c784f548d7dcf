"""Numbers of one thread, and the few instructions of PTX that Pallas has no name for."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxlib.mlir import ir
from jaxlib.mlir.dialects import arith as _arith, llvm as _llvm, scf as _scf

# Their stubs describe generated base classes, and not what Python is given.
arith: Any = _arith
llvm: Any = _llvm
scf: Any = _scf


class Int:
    """An unsigned integer of 32 or 64 bits in a register; Python's integers are taken as constants of the same size."""

    def __init__(self, value: Any) -> None:
        self.value = value

    @classmethod
    def of(cls, number: int, bits: int = 32) -> "Int":
        number &= 2**bits - 1
        signed = number - 2**bits if number >> (bits - 1) else number
        kind = ir.IntegerType.get_signless(bits)
        return cls(arith.constant(kind, ir.IntegerAttr.get(kind, signed)))

    @property
    def bits(self) -> int:
        return ir.IntegerType(self.value.type).width

    def _with(self, operation: Callable[[Any, Any], Any], other: "Int | int") -> "Int":
        other = other if isinstance(other, Int) else Int.of(other, self.bits)
        return Int(operation(self.value, other.value))

    def __add__(self, other: "Int | int") -> "Int":
        return self._with(arith.addi, other)

    def __sub__(self, other: "Int | int") -> "Int":
        return self._with(arith.subi, other)

    def __mul__(self, other: "Int | int") -> "Int":
        return self._with(arith.muli, other)

    def __and__(self, other: "Int | int") -> "Int":
        return self._with(arith.andi, other)

    def __or__(self, other: "Int | int") -> "Int":
        return self._with(arith.ori, other)

    def __xor__(self, other: "Int | int") -> "Int":
        return self._with(arith.xori, other)

    def __lshift__(self, other: "Int | int") -> "Int":
        return self._with(arith.shli, other)

    def __rshift__(self, other: "Int | int") -> "Int":
        return self._with(arith.shrui, other)

    def __floordiv__(self, other: "Int | int") -> "Int":
        return self._with(arith.divui, other)

    def __mod__(self, other: "Int | int") -> "Int":
        return self._with(arith.remui, other)

    def __lt__(self, other: "Int | int") -> Any:
        other = other if isinstance(other, Int) else Int.of(other, self.bits)
        return arith.cmpi(arith.CmpIPredicate.ult, self.value, other.value)

    def eq(self, other: int) -> Any:
        return arith.cmpi(arith.CmpIPredicate.eq, self.value, Int.of(other, self.bits).value)

    def wide(self) -> "Int":
        """Zeros in front."""
        return Int(arith.extui(ir.IntegerType.get_signless(64), self.value))

    def wide_signed(self) -> "Int":
        return Int(arith.extsi(ir.IntegerType.get_signless(64), self.value))

    def as_float(self) -> Any:
        """The same bits."""
        return arith.bitcast(ir.F32Type.get(), self.value)

    def converted(self) -> Any:
        """The nearest float32 of the number, signed."""
        return arith.sitofp(ir.F32Type.get(), self.value)


def both(a: Any, b: Any) -> Any:
    return arith.andi(a, b)


def least(a: Int, b: int) -> Int:
    return Int(arith.minui(a.value, Int.of(b, a.bits).value))


def select(which: Any, a: Int, b: Int | int) -> Int:
    b = b if isinstance(b, Int) else Int.of(b, a.bits)
    return Int(arith.select(which, a.value, b.value))


def asm(text: str, constraints: str, *args: Any, results: Sequence[Any] = ()) -> list[Any]:
    """One piece of PTX, in the place where it stands; its results come first among the constraints."""
    values = [arg.value if isinstance(arg, Int) else arg for arg in args]
    kind = None if not results else results[0] if len(results) == 1 else llvm.StructType.get_literal(list(results))
    out = llvm.inline_asm(kind, values, text, constraints, asm_dialect=0, has_side_effects=True)
    if len(results) <= 1:
        return [out]
    return [llvm.extractvalue(each, out, [i]) for i, each in enumerate(results)]


def ints(text: str, constraints: str, *args: Any, number: int) -> list[Int]:
    """The same, of results that are integers of 32 bits."""
    kind = ir.IntegerType.get_signless(32)
    return [Int(each) for each in asm(text, constraints, *args, results=[kind] * number)]


def special(name: str) -> Int:
    """A special register."""
    return ints(f"mov.u32 $0, %{name};", "=r", number=1)[0]


def numbered(prefix: str, count: int, first: int = 0) -> str:
    """A vector of operands."""
    return prefix + "{" + ",".join(f"${first + i}" for i in range(count)) + "}"


def load(space: str, address: Int, width: int, offset: int = 0) -> list[Int]:
    """Words from shared or (never written) global memory."""
    vector = f".v{width}" if width > 1 else ""
    kind = {"shared": "ld.shared", "global": "ld.global.nc"}[space]
    into = numbered("", width) if width > 1 else "$0"
    letter = "r" if space == "shared" else "l"
    text = f"{kind}{vector}.b32 {into}, [${width}+{offset}];"
    return ints(text, ",".join(["=r"] * width + [letter]), address, number=width)


def load_where(address: Int, mask: Int, needed: Int, width: int, offset: int = 0) -> list[Int]:
    """Words from global memory where the mask has all bits that are needed, else zeros."""
    vector, into = (f".v{width}", numbered("", width)) if width > 1 else ("", "$0")
    a, m, n = (f"${width + i}" for i in range(3))
    zeros = " ".join(f"mov.b32 ${i}, 0;" for i in range(width))
    text = (
        f"{{ .reg .pred p; .reg .b32 t; and.b32 t, {m}, {n}; setp.eq.b32 p, t, {n}; {zeros} "
        f"@p ld.global.nc{vector}.b32 {into}, [{a}+{offset}]; }}"
    )
    return ints(text, ",".join(["=&r"] * width + ["l", "r", "r"]), address, mask, needed, number=width)


def store_global(address: Int, words: Sequence[Int], where: Any, offset: int = 0, how: str = "") -> None:
    """Where the predicate holds; `how` may say for what the cache keeps it."""
    flag = arith.extui(ir.IntegerType.get_signless(32), where)
    n = len(words)
    vector, what = (f".v{n}", numbered("", n, 2)) if n > 1 else ("", "$2")
    text = f"{{ .reg .pred p; setp.ne.b32 p, $1, 0; @p st.global{how}{vector}.b32 [$0+{offset}], {what}; }}"
    asm(text, ",".join(["l", "r"] + ["r"] * n), address, flag, *words)


def store_half(address: Int, word: Int, where: Any, offset: int = 0) -> None:
    """The lower 16 bits of a word, where the predicate holds."""
    flag = arith.extui(ir.IntegerType.get_signless(32), where)
    text = (
        f"{{ .reg .pred p; .reg .b16 h; setp.ne.b32 p, $1, 0; cvt.u16.u32 h, $2; @p st.global.b16 [$0+{offset}], h; }}"
    )
    asm(text, "l,r,r", address, flag, word)


def multiply(acc: list[Int] | None, a: Sequence[Int], start: Int, offset: int, columns: int) -> list[Int]:
    """64 rows of 256 bits, four registers of every thread, times so many columns in shared memory.

    To the counts that there are (None: to nothing). They and a must not be touched before `finish`. The offset is
    added here, else the compiler would keep every sum in registers.
    """
    n, taken = columns // 2, len(acc or ())
    counts, rows = "{" + ",".join(f"${i}" for i in range(n)) + "}", numbered("", 4, n + taken)
    at = f"add.s64 at, ${n + taken + 4}, {offset};"
    adds = f"setp.ne.b32 p, {1 if acc else 0}, 0;"
    instruction = f"wgmma.mma_async.sync.aligned.m64n{columns}k256.s32.b1.b1.and.popc"
    text = f"{{ .reg .pred p; .reg .b64 at; {adds} {at} {instruction} {counts}, {rows}, at, p; }}"
    constraints = ["=r"] * n + [str(i) for i in range(taken)] + ["r"] * 4 + ["l"]
    return ints(text, ",".join(constraints), *(acc or ()), *a, start, number=n)


def begin() -> None:
    """Before instructions that read registers written since."""
    asm("wgmma.fence.sync.aligned;", "")


def commit() -> None:
    asm("wgmma.commit_group.sync.aligned;", "")


def finish(acc: list[Int], a: Sequence[Int]) -> list[Int]:
    """The counts, once all instructions are done; until then they need their rows."""
    n = len(acc)
    constraints = ["=r"] * n + [str(i) for i in range(n)] + ["r"] * len(a)
    return ints("wgmma.wait_group.sync.aligned 0;", ",".join(constraints), *acc, *a, number=n)


def wait(pending: int, a: Sequence[Int]) -> None:
    """Until so many groups are left; the rows of those done may then be forgotten."""
    asm(f"wgmma.wait_group.sync.aligned {pending};", ",".join(["r"] * len(a)), *a)


def loop(first: Int, end: int, step: int, body: Callable[..., Sequence[Int] | None], *carried: Int) -> list[Int]:
    """body(index, *carried) returns what the next turn is given; what the last returned."""
    limits = [first, Int.of(end), Int.of(step)]
    op = scf.ForOp(*(each.value for each in limits), [each.value for each in carried])
    with ir.InsertionPoint(op.body):
        given = [Int(each) for each in op.inner_iter_args]
        scf.yield_([each.value for each in body(Int(op.induction_variable), *given) or ()])
    return [Int(each) for each in op.results]


def when(which: Any, body: Callable[[], None]) -> None:
    """The body, where the predicate holds."""
    op = scf.IfOp(which)
    with ir.InsertionPoint(op.then_block):
        body()
        scf.yield_([])


def begin_copies(barrier: Int, size: int) -> None:
    """One thread says how many bytes all copies bring."""
    asm("mbarrier.init.shared::cta.b64 [$0], 1;", "r", barrier)
    asm("fence.proxy.async.shared::cta;", "")
    asm(f"mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], {size};", "r", barrier)


def copy(target: Int, source: Int, size: int, barrier: Int) -> None:
    """From global to shared memory, so many bytes: a multiple of 16, as both addresses are."""
    text = f"cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [$0], [$1], {size}, [$2];"
    asm(text, "r,l,r", target, source, barrier)


def meet(barrier: Int) -> None:
    """Until all copies are done."""
    asm("bar.sync 0;", "")
    wait = "mbarrier.try_wait.parity.shared::cta.b64 p, [$0], 0;"
    asm(f"{{ .reg .pred p; wait_${{:uid}}: {wait} @!p bra wait_${{:uid}}; }}", "r", barrier)


def lower_halves(low: Int, high: Int) -> Int:
    """Two numbers of 16 bits in a word."""
    return ints("prmt.b32 $0, $1, $2, 0x5410;", "=r,r,r", low, high, number=1)[0]


def of_neighbour(word: Int, apart: int) -> Int:
    """The word of the lane whose number differs in this bit."""
    return ints(f"shfl.sync.bfly.b32 $0, $1, {apart}, 31, 0xffffffff;", "=r,r", word, number=1)[0]


def spread_halves(a: Int, b: Int) -> Int:
    """Every byte filled with the highest bit of one of four halves."""
    return ints("prmt.b32 $0, $1, $2, 0xFDB9;", "=r,r,r", a, b, number=1)[0]


def spread(words: Sequence[Int]) -> Int:
    """Every byte filled with the highest bit of one of four words."""
    a, b = (ints("prmt.b32 $0, $1, $2, 0xFFBB;", "=r,r,r", *words[i : i + 2], number=1)[0] for i in (0, 2))
    return ints("prmt.b32 $0, $1, $2, 0x6420;", "=r,r,r", a, b, number=1)[0]


def in_pairs(values: Sequence[Any]) -> list[Int]:
    """float32 as bfloat16, two a word, the first in the lower half."""
    pairs = zip(values[::2], values[1::2], strict=True)
    return [ints("cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", a, b, number=1)[0] for a, b in pairs]


def rounded(operation: str, a: Any, b: Any) -> Any:
    """A product or sum of float32, rounded for itself: nothing merges it with another."""
    return asm(f"{operation}.rn.f32 $0, $1, $2;", "=f,f,f", a, b, results=[ir.F32Type.get()])[0]


def bits_of(a: Any) -> Int:
    """The same bits, of a float32 or of an integer."""
    return Int(arith.bitcast(ir.IntegerType.get_signless(32), a) if a.type == ir.F32Type.get() else a)


def clamped(y: Any, low: float | None, high: float | None) -> Any:
    """What is lower or higher becomes the bound; what compares with nothing stays."""
    for bound, beyond in ((low, arith.CmpFPredicate.OLT), (high, arith.CmpFPredicate.OGT)):
        if bound is not None:
            limit = arith.constant(ir.F32Type.get(), ir.FloatAttr.get(ir.F32Type.get(), bound))
            y = arith.select(arith.cmpf(beyond, y, limit), limit, y)
    return y


def multiply_reals(acc: Sequence[Int], a: Sequence[Int], b: Sequence[Int]) -> list[Int]:
    """16 x 16 times 16 x 8 of bfloat16, added to float32."""
    text = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, "
    return ints(text + "{$10,$11,$12,$13};", ",".join(["=r"] * 4 + ["r"] * 10), *a, *b, *acc, number=4)


def store_shared(address: Int, word: Int) -> None:
    asm("st.shared.b32 [$0], $1;", "r,r", address, word)
