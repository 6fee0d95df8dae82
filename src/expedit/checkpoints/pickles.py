"""Pickles without trust: whatever a pickle wants made comes in as a ``Record`` of what it asked for; nothing is called.

A pickle is a program. Ours may build numbers, text, lists, tuples and dictionaries. Every other name that it gives
becomes an inert class, and a name that checkpoints do not need is reported, so that the file can be refused. The
program is looked through before it runs: some steps would take any amount of memory, or end the interpreter.
"""

from __future__ import annotations

import pickle
import pickletools
import re
from typing import Any, ClassVar, NamedTuple

KNOWN = re.compile(
    r"""
      collections\.(OrderedDict|defaultdict|Counter)
    | _codecs\.encode | copyreg\._reconstructor | copy_reg\._reconstructor
    | (builtins|__builtin__)\.(object|int|long|float|complex|bool|str|unicode|bytes|bytearray|list|tuple
      |dict|set|frozenset|slice|getattr)
    | numpy\.(dtype|ndarray|bool_?|float(16|32|64)|u?int(8|16|32|64))
    | numpy\._?core\.(multiarray\.(_reconstruct|scalar)|numeric\._frombuffer)
    | numpy\.dtypes\.\w+DType
    | torch\.(Size|device|Tensor|\w+Storage|\w+Tensor|strided|sparse_\w+)
    | torch\.(q?u?int\d+|b?float\d+(_\w+)?|complex\d+|double|bool)
    | torch\.per_\w+_affine | torch\._utils\._rebuild_\w+ | torch\._tensor\._rebuild_from_type_v2
    | torch\.nn\.parameter\.(Parameter|Buffer) | torch\.serialization\._get_layout | torch\.storage\.\w+Storage
    | argparse\.Namespace | datetime\.\w+ | types\.SimpleNamespace
    | pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path
    | mmengine\.(logging\.history_buffer\.HistoryBuffer | config\.config\.\w+) | mmcv\.utils\.config\.\w+
    | (yacs|detectron2|fvcore)\.[\w.]+\.CfgNode | addict\.addict\.Dict | easydict\.EasyDict
    | omegaconf\.(dictconfig|listconfig|base|nodes)\.\w+ | typing\.Any
    | (pytorch_lightning|lightning|lightning_fabric)\.[\w.]+\.(AttributeDict|ModelCheckpoint|EarlyStopping)
    """,
    re.VERBOSE,
)
"""Names of tensors and arrays, and of what trainers keep beside them. None of them is imported."""

MOST_STEPS, MOST_NAMES, MOST_ITEMS = 1 << 20, 1 << 10, 1 << 12
"""Steps of a pickle, different names in it, and items of a tuple with all that is in them. A ViT-L with the state of
its optimizer has about 30,000, 10 and 10."""

TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET")
PUTS, GETS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), ("GET", "BINGET", "LONG_BINGET")


class Record(dict[Any, Any]):
    """Something that a pickle wants made, and is not.

    Attributes:
        name: dotted name of the class or function.
        arguments: what it would be called with.
        state: what it would be told to restore. Items of a dictionary are those of the record itself.
    """

    name: ClassVar[str]
    arguments: tuple[Any, ...]
    state: Any = None

    def __new__(cls, *arguments: Any, **_: Any) -> Record:
        """Keeps what it is called with."""
        record = super().__new__(cls)
        record.arguments = arguments
        return record

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def extend(self, items: Any) -> None:
        """Items of a list; nobody asks for them."""

    append = add = extend


class Reference(NamedTuple):
    """What a pickle says of data that lie elsewhere in the file."""

    identity: Any


class Unpickled(NamedTuple):
    """What a pickle builds, and the first name in it that checkpoints do not need."""

    content: Any
    refused: str | None


def unpickle(stream: Any, references: list[Reference] | None = None) -> Unpickled:
    """The next pickle of a file that can seek; ``references`` collects what it says of data elsewhere in the file.

    Raises:
        Exception: of any kind where the pickle is damaged.
    """
    start = stream.tell()
    _look_through(stream)
    stream.seek(start)
    reader = _Reader(stream, [] if references is None else references)
    try:
        content = reader.load()
    except Exception:
        if reader.refused is None:
            raise
        content = None  # a record is not what it expected to get
    return Unpickled(content, reader.refused)


class _Reader(pickle.Unpickler):
    refused: str | None = None

    def __init__(self, stream: Any, references: list[Reference]) -> None:
        super().__init__(stream, encoding="latin1")  # arrays pickled by Python 2 keep their bytes
        self.references = references
        self.kinds: dict[str, type[Record]] = {}

    def find_class(self, module: str, name: str) -> type[Record]:
        """A class of records; nothing is looked up or imported."""
        full = f"{module}.{name}"
        if full not in self.kinds:
            if len(self.kinds) == MOST_NAMES:
                raise ValueError(f"more than {MOST_NAMES} different names")
            self.kinds[full] = type("Record", (Record,), {"name": full})
        if self.refused is None and not KNOWN.fullmatch(full):
            self.refused = full
        return self.kinds[full]

    def persistent_load(self, pid: Any) -> Any:
        """Data elsewhere in the file; the old format of torch writes the classes of modules with their source."""
        if isinstance(pid, tuple) and pid[:1] == ("module",):
            return pid[1]
        self.references.append(Reference(pid))
        return self.references[-1]


def _look_through(stream: Any) -> None:
    """ValueError for a pickle that would do harm without calling anything.

    A tuple as a key of a dictionary is hashed with everything in it: nested too deep it ends the interpreter, doubled
    often enough it takes for ever. The largest index of the memo sets its size. Long integers make keys collide.
    """
    stack: list[int] = []  # how many items each entry has, with all that is in it
    marks: list[int] = []
    memo: dict[int, int] = {}
    argument: Any
    for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        name = opcode.name
        if step == MOST_STEPS:
            raise ValueError(f"more than {MOST_STEPS} steps")
        if isinstance(argument, int) and (argument.bit_length() > 64 or (name in PUTS and argument > step)):
            raise ValueError(f"{name} of {argument:#x}")
        if name in PUTS:
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in GETS:
            stack.append(memo[argument])
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "MARK":
            marks.append(len(stack))
        else:
            taken = _take(stack, marks, opcode)
            items = 1 + sum(taken) if name in TUPLES else 1
            if items > MOST_ITEMS:
                raise ValueError(f"a tuple of {items} items")
            stack.extend([items] * len(opcode.stack_after))


def _take(stack: list[int], marks: list[int], opcode: pickletools.OpcodeInfo) -> list[int]:
    """What ``opcode`` takes off ``stack``; an error where it is not there."""
    before = opcode.stack_before
    if pickletools.markobject in before:
        start = marks.pop() - before.index(pickletools.markobject)
    elif opcode.name == "POP" and marks and marks[-1] == len(stack):
        start = len(stack)
        marks.pop()
    else:
        start = len(stack) - len(before)
    if start < 0:
        raise ValueError(f"{opcode.name} has nothing to work on")
    taken = stack[start:]
    del stack[start:]
    return taken
