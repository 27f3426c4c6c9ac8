"""The type stubs say what the extension module has, and the package keeps to them."""

import subprocess

import pytest
from serving import has


@pytest.fixture(scope="module")
def mypy(python):
    if not has(python, "mypy"):
        pytest.skip("mypy is not installed beside the wheel: pip install mypy")

    def run(module, *arguments):
        command = [python, "-m", module, *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd="/")

    return run


def test_the_stubs_are_those_of_the_extension_module(mypy):
    done = mypy("mypy.stubtest", "rushlight._rushlight", "--ignore-disjoint-bases")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_is_typed(mypy, tmp_path):
    done = mypy(
        "mypy", "--cache-dir", str(tmp_path), "--ignore-missing-imports", "-p", "rushlight.host", "-m", "rushlight",
        "-m", "rushlight.__main__",
    )
    assert done.returncode == 0, done.stdout + done.stderr
