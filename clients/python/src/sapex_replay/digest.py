"""BLAKE3 in plain Python, for the digests of settings and rows. They are a few KiB and are computed once per client.

The names are those of the BLAKE3 paper (https://github.com/BLAKE3-team/BLAKE3-specs), without keys and longer outputs.
"""

from __future__ import annotations

import struct
from typing import List, NamedTuple

_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_COLUMNS_AND_DIAGONALS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip
_ROUNDS = 7
_BLOCK = 64
_CHUNK = 1024
_START, _END, _PARENT, _ROOT = 1, 2, 4, 8
_MASK = 0xFFFFFFFF


class _Node(NamedTuple):
    """A compression that has not been done: only the root gets the flag of the root."""

    value: List[int]
    block: bytes
    counter: int
    length: int
    flags: int

    def compress(self, extra: int = 0) -> List[int]:
        """Returns the first 8 words of the result."""
        low, high = self.counter & _MASK, self.counter >> 32
        state = [*self.value, *_IV[:4], low, high, self.length, self.flags | extra]
        words = list(struct.unpack("<16I", self.block.ljust(_BLOCK, b"\0")))
        for _ in range(_ROUNDS):
            for i, (a, b, c, d) in enumerate(_COLUMNS_AND_DIAGONALS):
                _mix(state, a, b, c, d, words[2 * i], words[2 * i + 1])
            words = [words[i] for i in _PERMUTATION]
        return [state[i] ^ state[i + 8] for i in range(8)]


def _mix(state: List[int], a: int, b: int, c: int, d: int, first: int, second: int) -> None:
    for word, right_d, right_b in ((first, 16, 12), (second, 8, 7)):
        state[a] = (state[a] + state[b] + word) & _MASK
        state[d] = _rotate(state[d] ^ state[a], right_d)
        state[c] = (state[c] + state[d]) & _MASK
        state[b] = _rotate(state[b] ^ state[c], right_b)


def _rotate(word: int, right: int) -> int:
    return (word >> right | word << (32 - right)) & _MASK


def _chunk(data: bytes, counter: int) -> _Node:
    blocks = [data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK)] or [b""]
    value = list(_IV)
    for i, block in enumerate(blocks):
        flags = (_START if i == 0 else 0) | (_END if i == len(blocks) - 1 else 0)
        node = _Node(value, block, counter, len(block), flags)
        if i < len(blocks) - 1:
            value = node.compress()
    return node


def _tree(data: bytes, counter: int) -> _Node:
    if len(data) <= _CHUNK:
        return _chunk(data, counter)
    # The left part is the largest power of two of chunks that leaves something for the right part.
    chunks = 1 << (((len(data) - 1) // _CHUNK).bit_length() - 1)
    left = _tree(data[: chunks * _CHUNK], counter)
    right = _tree(data[chunks * _CHUNK :], counter + chunks)
    block = struct.pack("<16I", *left.compress(), *right.compress())
    return _Node(list(_IV), block, 0, _BLOCK, _PARENT)


def blake3(data: bytes) -> bytes:
    """Returns the 32 bytes of the BLAKE3 hash."""
    return struct.pack("<8I", *_tree(data, 0).compress(_ROOT))


def digest64(data: bytes) -> int:
    """Returns the first 8 bytes of the BLAKE3 hash as a little-endian number, as the protocol's hashes are."""
    return int.from_bytes(blake3(data)[:8], "little")
