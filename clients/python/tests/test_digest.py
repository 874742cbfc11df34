"""Digests are those of another BLAKE3."""

import blake3
import pytest
from sapex_replay import digest


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 2049, 3073, 5000, 8192, 20_000])
def test_hashes_of_every_shape_of_tree_are_those_of_another_blake3(length: int) -> None:
    data = bytes(i % 251 for i in range(length))
    assert digest.blake3(data) == blake3.blake3(data).digest()
