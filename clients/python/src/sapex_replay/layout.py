"""The row of a replay: which fields it has, where they lie, and how arrays become rows and rows arrays.

A batch of rows is a numpy array of a structured type, so that fields are views of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .digest import digest64
from .errors import InvalidInput

# A server stores no float of a larger magnitude, and no |td| above the second bound (docs/protocol.md).
ROW_VALUE_MAX = 6.4e7
TD_ABS_MAX = 1e8

_NUMPY = {"F32": "<f4", "U8": "u1", "I64": "<i8"}
_EXPECTED = {"F32": "an array of real numbers", "U8": "an array of uint8", "I64": "an array of integers"}
# A field that only Sapex's own learner needs. It may be left out.
_OPTIONAL = "policy_version"

FieldSpec = Tuple[str, str, Tuple[int, ...]]


@dataclass(frozen=True)
class Field:
    """One field of a row. `dtype` is F32, U8 or I64; `shape` is that of one row's value, () for a number."""

    name: str
    dtype: str
    shape: Tuple[int, ...]
    offset: int


class RowLayout:
    """The fields of a row, packed in order, each aligned to the size of its element."""

    def __init__(self, fields: List[FieldSpec]) -> None:
        end = 0
        placed: List[Field] = []
        for name, dtype, shape in fields:
            size = np.dtype(_NUMPY[dtype]).itemsize
            at = -(-end // size) * size
            placed.append(Field(name, dtype, shape, at))
            end = at + size * int(np.prod(shape, dtype=np.int64))
        self.fields: Tuple[Field, ...] = tuple(placed)
        self.row_bytes = -(-end // 8) * 8
        lines = [f"{f.name}:{f.dtype}:[{', '.join(map(str, f.shape))}]@{f.offset}\n" for f in placed]
        self.hash = digest64("".join([*lines, f"{self.row_bytes}\n"]).encode())
        self.dtype: np.dtype[Any] = np.dtype(
            {
                "names": [f.name for f in placed],
                "formats": [(_NUMPY[f.dtype], f.shape) for f in placed],
                "offsets": [f.offset for f in placed],
                "itemsize": self.row_bytes,
            }
        )

    def pack(self, arrays: Mapping[str, ArrayLike]) -> NDArray[Any]:
        """Makes rows of one array per field, each of shape [rows, *shape of the field].

        Raises:
            InvalidInput: A field is missing, unknown, or has another shape, type or range. It is named.
        """
        names = [field.name for field in self.fields]
        for name in arrays:
            if name not in names:
                raise InvalidInput("field", repr(name), f"one of {', '.join(names)}")
        given = [field for field in self.fields if field.name in arrays]
        missing = [name for name in names if name not in arrays and name != _OPTIONAL]
        if missing:
            raise InvalidInput(f"field {missing[0]}", "missing", f"an array for each of {', '.join(names)}")
        values = [_as_array(field, arrays[field.name]) for field in given]
        rows = values[0].shape[0] if values[0].ndim else 0
        for field, value in zip(given, values):
            if value.shape != (rows, *field.shape):
                shape = _shape(("rows", *field.shape))
                raise InvalidInput(f"shape of {field.name}", _shape(value.shape), f"{shape} with {rows} rows")
        if rows == 0:
            raise InvalidInput("number of rows", 0, "at least 1")
        block = np.zeros(rows, self.dtype)
        for field, value in zip(given, values):
            block[field.name] = _converted(field, value)
        return block

    def unpack(self, data: bytes) -> Dict[str, NDArray[Any]]:
        """Returns one array per field of shape [rows, *shape of the field], which own their memory."""
        block = np.frombuffer(data, self.dtype)
        return {field.name: np.array(block[field.name]) for field in self.fields}


def _shape(shape: Tuple[object, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _as_array(field: Field, value: ArrayLike) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidInput(f"field {field.name}", f"no array ({error})", _EXPECTED[field.dtype]) from error
    kinds = {"F32": "fiub", "U8": "u", "I64": "iu"}[field.dtype]
    if array.dtype.kind not in kinds or (field.dtype == "U8" and array.dtype.itemsize != 1):
        raise InvalidInput(f"type of {field.name}", array.dtype, _EXPECTED[field.dtype])
    return array


def _converted(field: Field, value: NDArray[Any]) -> NDArray[Any]:
    if field.dtype == "I64":
        largest = np.iinfo(np.int64).max
        highest = int(value.max(initial=0))
        if highest > largest:
            raise InvalidInput(f"largest {field.name}", highest, f"at most {largest}")
    if field.dtype == "F32":
        check_range(field.name, value, -ROW_VALUE_MAX, ROW_VALUE_MAX)
    return value


def check_range(what: str, value: NDArray[Any], low: float, high: float) -> None:
    """Checks that all numbers are from `low` to `high`; NaN is not.

    Raises:
        InvalidInput: One is not. The error names its index.
    """
    within = (value >= low) & (value <= high)
    if not within.all():
        index = tuple(int(i) for i in np.argwhere(~within)[0])
        raise InvalidInput(f"{what}{_shape(index)}", value[index], f"a number from {low:g} to {high:g}")
