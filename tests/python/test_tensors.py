"""The border between NumPy or PyTorch and the engine, without a server."""

import subprocess

import pytest
from serving import has


def run_in(python, code):
    """Runs code in the Python that has the wheel; it must not fail."""
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


NUMPY = """
import gc, numpy as np
from rushlight import _rushlight as r
from rushlight.host import tensors
tensors.library = lambda: "numpy"
"""


def test_a_contiguous_array_is_shared_and_given_back(python):
    run_in(python, NUMPY + """
a = np.arange(4096, dtype=np.float32).reshape(2, 2048)
before = r.adopted_blocks()
view = r.round_trip(tensors.to_capsule(a))
assert view.data_ptr() == a.ctypes.data, "copied"
assert r.adopted_blocks() == before + 1
b = tensors.from_view(view)
assert b.ctypes.data == a.ctypes.data and (b == a).all()
del view, b
gc.collect()
assert r.adopted_blocks() == before
assert a[1, 5] == 2053
""")


@pytest.mark.parametrize("expression", ["a[:, ::-1]", "a.T", "a[:, ::2]", "a.astype(np.float16)", "a.astype(np.float64)",
                                        "a.astype('>f4')", "a[:1, :3]", "a.astype(np.uint8)"])
def test_other_layouts_and_types_are_copied_right(python, expression):
    run_in(python, NUMPY + f"""
a = (np.arange(4096, dtype=np.float32) % 200).reshape(4, 1024)
a = {expression}
view = r.round_trip(tensors.to_capsule(a))
b = tensors.from_view(view)
assert b.shape == a.shape and np.array_equal(np.asarray(b, dtype=np.float64), np.asarray(a, dtype=np.float64))
""")


def test_an_engine_tensor_is_shared_and_outlives_its_view(python):
    run_in(python, NUMPY + """
view = r.zeros([64, 64])
address = view.data_ptr()
a = tensors.from_view(view)
del view
gc.collect()
assert a.ctypes.data == address and a.sum() == 0
a[3, 3] = 5
assert a.sum() == 5
""")


def test_a_block_lent_twice_is_copied_the_second_time(python):
    run_in(python, NUMPY + """
a = np.ones(4096, dtype=np.float32)
one = r.round_trip(tensors.to_capsule(a))
two = r.round_trip(tensors.to_capsule(a))
assert one.data_ptr() == a.ctypes.data and two.data_ptr() != a.ctypes.data
""")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_torch_tensors_cross(python, dtype):
    if not has(python, "torch"):
        pytest.skip(f"{python} has no PyTorch")
    run_in(python, f"""
import torch
from rushlight import _rushlight as r
from rushlight.host import tensors
a = torch.arange(4096, dtype=torch.float32).reshape(2, 2048).to(torch.{dtype})
view = r.round_trip(tensors.to_capsule(a))
assert view.data_ptr() == a.data_ptr()
b = tensors.from_view(view)
assert b.dtype == a.dtype and torch.equal(a, b) and b.data_ptr() == a.data_ptr()
c = tensors.from_view(r.round_trip(tensors.to_capsule(a.t())))
assert torch.equal(c, a.t())
""")


