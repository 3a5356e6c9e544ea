"""Which pages of a process may be dropped, and that it runs on without them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model_server.memory import release_code_pages, unchanged_code


def mapping(where: str, permissions: str, file: str, own: int) -> str:
    return f"{where} {permissions} 00000000 08:01 42 {file}\nRss:    64 kB\nAnonymous:   {own} kB\nVmFlags: rd ex\n"


@pytest.mark.parametrize(
    ("smaps", "found"),
    [
        pytest.param(mapping("1000-3000", "r-xp", "  /lib/a.so", 0), [(0x1000, 0x3000)], id="code of a file"),
        pytest.param(mapping("1000-3000", "r-xp", "  /lib/a.so", 4), [], id="code that was written to stays"),
        pytest.param(mapping("1000-3000", "rw-p", "  /lib/a.so", 0), [], id="data stay"),
        pytest.param(mapping("1000-3000", "r-xp", "", 0), [], id="code made at run time stays"),
        pytest.param(mapping("1000-3000", "r-xp", "  [vdso]", 0), [], id="the kernel's own stays"),
        pytest.param(
            mapping("1000-3000", "r-xp", "  /lib/a.so", 8) + mapping("4000-5000", "r-xp", "  /lib/b c.so", 0),
            [(0x4000, 0x5000)],
            id="each mapping by its own figures",
        ),
        pytest.param(
            "1000-3000 r-xp 00000000 08:01 42  /lib/a.so\nRss: 4 kB\n" + mapping("4000-5000", "rw-p", "", 0),
            [],
            id="a mapping without the figure stays",
        ),
    ],
)
def test_only_code_that_can_be_read_again_is_dropped(smaps, found):
    assert list(unchanged_code(smaps.splitlines(keepends=True))) == found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_runs_on_without_its_code():
    np.linalg.inv(np.eye(3))
    before = file_kilobytes()
    release_code_pages()
    assert file_kilobytes() < before
    assert np.allclose(np.linalg.inv(np.diag([2.0, 4.0])), np.diag([0.5, 0.25]))


def file_kilobytes() -> int:
    found = re.search(r"^RssFile:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_what_scikit_learn_imports_for_nothing_is_not_loaded_until_it_is_used():
    code = """
import sys
from model_server.runtimes.sklearn import import_scikit_learn
import_scikit_learn()
import sklearn.linear_model
unused = {"pandas", "numpy.testing._private.utils", "numpy.f2py.crackfortran", "unittest"}
assert not unused & set(sys.modules), unused & set(sys.modules)
import numpy.f2py
from numpy.testing import assert_allclose
assert_allclose(1.0, 1.0)
assert numpy.f2py.get_include()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
