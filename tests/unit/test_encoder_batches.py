"""Out of memory, as every device says it, and the smaller batches that follow."""

from __future__ import annotations

import pytest
import torch
from fashion_rag.retriever.encoders.batches import in_smaller_batches, is_out_of_memory
from hypothesis import given, settings
from hypothesis import strategies as st

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.9 GB, max allowed: 9.07 GB)."),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 40000000000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory"),
    RuntimeError("XPU out of memory. Tried to allocate 1.00 GiB"),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:20])
def test_every_device(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("memory")]
)
def test_other_errors(error):
    assert not is_out_of_memory(error)


def test_the_cpu_itself_says_so():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 9), fits=st.integers(1, 9), error=st.sampled_from(ERRORS))
def test_the_rows_are_the_same_in_the_same_order(count, fits, error):
    calls = []

    def encode(batch):
        if len(batch) > fits:
            raise error
        calls.append(len(batch))
        return torch.as_tensor(batch).float()[:, None]

    expected = torch.arange(count).float()[:, None]
    assert torch.equal(in_smaller_batches(encode, torch.arange(count)), expected)
    assert max(calls) <= fits and sum(calls) == count
    assert torch.equal(in_smaller_batches(encode, list(range(count))), expected)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:20])
def test_one_that_does_not_fit_is_an_error(error):
    def encode(batch):
        raise error

    with pytest.raises(type(error)):
        in_smaller_batches(encode, [1, 2, 3])


def test_other_errors_are_raised_at_once():
    calls = []

    def encode(batch):
        calls.append(batch)
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        in_smaller_batches(encode, [1, 2, 3, 4])
    assert len(calls) == 1
