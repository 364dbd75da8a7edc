"""Programs kept on disk: loaded by other processes, never trusted blindly, never in the way."""

import enum
import functools
import itertools
import json
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pounce
from pounce import _executables
from pounce._compile import forget
from pounce._executables import Executable, Policy, Store, counts, executable, known
from pounce._executables.executable import Tier
from pounce._executables.fingerprint import UnknownError, fingerprint, surroundings
from pounce._linalg.sparse import Pattern


OWN = itertools.count(time.time_ns() % 2**40)


def cholesky(matrix, vector):
    # Another program whenever it is traced, so that JAX's own cache never has it.
    factor = jnp.linalg.cholesky(matrix)
    factor = factor + 0.0 * (factor * next(OWN))
    return (factor @ vector, (jnp.sum(factor),)), factor


LIKE = jax.ShapeDtypeStruct((3, 3), np.float64), jax.ShapeDtypeStruct((3,), np.float64)
MATRIX, VECTOR = np.array([[4.0, 1, 0], [1, 3, 1], [0, 1, 2]]), np.array([1.0, -2.0, 3.0])


def small(*identity, heavy=False) -> Executable:
    return Executable(cholesky, LIKE, "test", *identity, heavy=heavy)


@pytest.fixture
def store(tmp_path):
    """A store of this test's own."""
    before = _executables.current()
    own = Store(tmp_path / "pounce" / "programs")
    _executables.choose(own)
    yield own
    _executables.choose(before)


def entries(store):
    return [path for _, _, path in store.entries()]


SOLVES = """
import json
import jax, numpy as np
import pounce
P, q, G, h = np.diag([2.0, 1.0, 4.0]), np.array([1.0, -2.0, 0.5]), np.array([[1.0, 1.0, 1.0]]), np.array([0.3])
answer = pounce.solve_qp(P, q, G=G, h=h)

class Model:
    def objective(self, x): return float((x[0] - 1) ** 2 + 10 * (x[1] - x[0] ** 2) ** 2)
    def gradient(self, x): return np.array([2 * (x[0] - 1) - 40 * x[0] * (x[1] - x[0] ** 2), 20 * (x[1] - x[0] ** 2)])
    def constraints(self, x): return np.array([x[0] + x[1]])
    def jacobian(self, x): return np.ones(2)

problem = pounce.Problem(n=2, m=1, problem_obj=Model(), cl=[-1.0], cu=[1.5])
problem.add_option("print_level", 0)
x, info = problem.solve([0.0, 0.0])
told = pounce.cache.info()
print(json.dumps([answer.x.tolist(), answer.status, x.tolist(), info["status_msg"], told.loaded, told.compiled,
                  jax.config.jax_enable_x64, jax.config.jax_compilation_cache_dir]))
"""


SMALL = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from pounce._executables import Executable, counts

jax.config.update("jax_enable_x64", True)
if "second device" in sys.argv:
    jax.config.update("jax_default_device", jax.devices()[1])

def function(matrix):
    factor = jnp.linalg.cholesky(matrix)
    return jnp.sort(factor @ jnp.ones(3)), jnp.linalg.solve(matrix, factor) * jnp.arange(3)

made = Executable(function, (jax.ShapeDtypeStruct((3, 3), np.float64),), "small")
results = made(2 * np.eye(3))
print(json.dumps([np.asarray(each).tolist() for each in results] + list(counts()) + [results[0].device.id]))
"""


def process(folder, *arguments, code=SOLVES, **environment):
    plain = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    settings = plain | {"POUNCE_CACHE_DIR": str(folder), "POUNCE_QUICK_START": "1"} | environment
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_next_process_compiles_nothing(tmp_path):
    """Nothing has lowered a call of LAPACK in it, and sets have another order."""
    *first, loaded, compiled, x64, jax_folder = process(tmp_path, PYTHONHASHSEED="1")
    assert loaded == 0 and compiled > 3 and not x64 and jax_folder is None
    assert first[1] == "optimal" and first[3] == "Solve_Succeeded"
    *second, again, nothing, x64, jax_folder = process(tmp_path, PYTHONHASHSEED="2")
    assert (again, nothing) == (compiled, 0) and not x64 and jax_folder is None
    assert second == first  # to the last digit


def test_a_program_belongs_to_its_device(tmp_path):
    two = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    *first, loaded, compiled, device = process(tmp_path, code=SMALL, XLA_FLAGS=two)
    assert (loaded, compiled, device) == (0, 1, 0)
    for expected in ([0, 1, 1], [1, 0, 1]):
        *again, loaded, compiled, device = process(tmp_path, "second device", code=SMALL, XLA_FLAGS=two)
        assert again == first and [loaded, compiled, device] == expected
    assert process(0, code=SMALL, XLA_FLAGS=two)[-3:] == [0, 1, 0]  # switched off


def test_a_program_from_the_cache_of_jax_is_not_kept(tmp_path):
    """What JAX has loaded can be called, but not written again."""
    jax_cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    *first, loaded, compiled, _ = process(tmp_path / "one", code=SMALL, **jax_cache)
    assert (loaded, compiled) == (0, 1)
    for _ in range(2):
        *again, loaded, compiled, _ = process(tmp_path / "two", code=SMALL, **jax_cache)
        assert again == first and (loaded, compiled) == (0, 1)
    assert process(tmp_path / "one", code=SMALL, **jax_cache)[-3:-1] == [1, 0]


def test_a_loaded_program_is_the_compiled_one(store):
    compiled, loaded = small(), small()
    assert counts().loaded > 0 and len(entries(store)) == 1
    want = compiled(MATRIX, VECTOR)
    for matrix in (MATRIX, np.asfortranarray(MATRIX), jnp.asarray(MATRIX), np.pad(MATRIX, 2)[2:5, 2:5]):
        got = loaded((matrix,), [VECTOR])
        assert jax.tree.structure(got) == jax.tree.structure(want)
        assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want)))
    assert np.array_equal(MATRIX, [[4, 1, 0], [1, 3, 1], [0, 1, 2]])  # nothing is donated
    with pytest.raises(TypeError):
        loaded(MATRIX.astype(np.float32), VECTOR)
    assert known(lambda: {"shape": (3,)}, "value") == known(lambda: None, "value") == {"shape": (3,)}


def test_a_quick_program_is_replaced_when_it_has_run_for_long(store, monkeypatch):
    monkeypatch.setattr(Policy, "quick_start", True)
    first = small()
    assert first.tier is Tier.QUICK and small().tier is Tier.QUICK and len(entries(store)) == 1
    want = first(MATRIX, VECTOR)
    assert first.tier is Tier.QUICK
    monkeypatch.setattr(first, "_worth", 0.0)
    got = first(MATRIX, VECTOR)
    assert first.tier is Tier.GOOD and len(entries(store)) == 2
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
        np.testing.assert_allclose(a, b, rtol=1e-14)
    before = counts()
    assert small().tier is Tier.GOOD  # the next one starts there
    assert counts().compiled == before.compiled
    assert small("heavy", heavy=True).tier is Tier.GOOD
    pounce.cache.quick_start(False)
    assert small("other").tier is Tier.GOOD


def test_both_tiers_agree(store, monkeypatch):
    """Same iterations, answers equal to rounding."""
    data = dict(
        P=np.diag([2.0, 1.0, 4.0]), c=np.array([1.0, -2.0, 0.5]), G=np.array([[1.0, 1.0, 1.0]]), h=np.array([0.3])
    )
    answers = []
    for quick in (True, False):
        monkeypatch.setattr(Policy, "quick_start", quick)
        forget()
        answers.append(pounce.solve_qp(**data))
    quick, good = answers
    assert (quick.status, quick.iters) == (good.status, good.iters)
    np.testing.assert_allclose(quick.x, good.x, rtol=1e-9)


def damaged(content, key):
    return content[:-1] + bytes([content[-1] ^ 1])


def cut(content, key):
    return content[:40]


def of_another_key(content, key):
    return Store.sealed("0" * 64, content[Store.HEAD :])


def no_program(content, key):
    return Store.sealed(key, pickle.dumps((0, b"none")))


def no_pickle(content, key):
    return Store.sealed(key, b"none")


@pytest.mark.parametrize("spoil", [damaged, cut, of_another_key, no_program, no_pickle])
def test_what_cannot_be_trusted_is_compiled_again(spoil, store):
    want = small()(MATRIX, VECTOR)
    (path,) = entries(store)
    path.write_bytes(spoil(path.read_bytes(), path.stem))
    with pytest.warns(RuntimeWarning, match="compiled again") as said:
        again = small()
    assert len(said) == 1
    assert np.array_equal(again(MATRIX, VECTOR)[1], want[1])
    assert len(path.read_bytes()) > 1000  # it has been replaced
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners here")
def test_code_of_others_is_not_run(store, monkeypatch):
    small()
    (path,) = entries(store)
    assert store.folder.stat().st_mode & 0o777 == 0o700 and path.stat().st_mode & 0o077 == 0
    path.chmod(0o666)
    with pytest.warns(RuntimeWarning, match="written by others"):
        assert store.read(path.stem) is None
    assert not path.exists()
    target = store.folder.parent / "elsewhere"
    target.write_bytes(b"")
    path.symlink_to(target)
    assert Store(store.folder).usable()
    with pytest.warns(RuntimeWarning, match="cannot be read"):
        assert Store(store.folder).read(path.stem) is None
    store.folder.chmod(0o777)
    assert Store(store.folder).usable() and store.folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    _executables.choose(Store(store.folder))
    with pytest.warns(RuntimeWarning, match="another user") as said:
        assert np.isfinite(small("other")(MATRIX, VECTOR)[1]).all()
        small("and another")
    assert len(said) == 1


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    before = _executables.current()
    _executables.choose(Store(tmp_path / "file" / "programs"))
    try:
        with pytest.warns(RuntimeWarning, match="cannot be used"):
            assert np.isfinite(small()(MATRIX, VECTOR)[1]).all()
    finally:
        _executables.choose(before)


def test_entries_nobody_asks_for_go(tmp_path):
    store = Store(tmp_path / "programs", largest=10_000)
    for k in range(9):
        store.write(f"{k:064x}", bytes(1000))
        os.utime(entries(store)[-1] if k == 0 else store.folder / f"{k:064x}.program", (k, k))
    assert store.read(f"{0:064x}") == bytes(1000)  # asked for: the newest now
    store.write(f"{9:064x}", bytes(2000))
    left = {path.stem for path in entries(store)}
    assert {f"{0:064x}", f"{9:064x}"} <= left and f"{1:064x}" not in left
    assert sum(size for _, size, _ in store.entries()) <= 10_000


def test_many_at_once(tmp_path):
    """Writers and readers of one entry never see a part of it."""
    folder, key, bad = tmp_path / "programs", "a" * 64, []

    def work(k):
        own = Store(folder, largest=60_000)
        for _ in range(30):
            own.write(key, bytes([k]) * 20_000)
            got = own.read(key)
            if got is not None and got != got[:1] * 20_000:
                bad.append(got)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not bad and entries(Store(folder)) == [folder / f"{key}.program"]
    assert not list(folder.glob("*.part"))


def test_switching(store, tmp_path, monkeypatch):
    jax_folder = jax.config.jax_compilation_cache_dir
    pounce.cache.disable()
    small()
    assert entries(store) == [] and pounce.cache.info().folder is None
    assert jax.config.jax_compilation_cache_dir == jax_folder  # the user's own
    assert pounce.cache.enable(tmp_path / "new", jax_doors=False) == tmp_path / "new"
    before = pounce.cache.info()
    assert before.folder == tmp_path / "new" / "programs" and before.entries == 0
    small()
    small()
    after = pounce.cache.info()
    assert after.entries == 1 and 1000 < after.bytes < after.largest
    assert (after.loaded, after.compiled) == (before.loaded + 1, before.compiled + 1)
    pounce.cache.clear()
    assert pounce.cache.info().entries == 0
    monkeypatch.setattr(executable.serialize_executable, "serialize", lambda compiled: 1 / 0)
    with pytest.warns(RuntimeWarning, match="cannot be kept"):
        small()


class Colour(enum.IntEnum):
    RED = 1


class Pair(NamedTuple):
    a: int
    b: int


class Module(eqx.Module):
    value: float


def module_function():
    pass


def test_fingerprints_tell_apart_and_refuse_what_they_cannot_tell():
    values = [
        None, 0, 1, True, 1.0, "1", b"1", (1,), [1], (1, (2, 3)), ((1, 2), 3), {"a": 1}, {"a": 2}, frozenset({1, 2}), np.int32(1),
        np.zeros(2), np.zeros(3), np.zeros(2, np.int64), np.dtype("f4"), jax.ShapeDtypeStruct((2,), np.float64),
        jax.tree.structure((1, 2)), jax.tree.structure([1, 2]), pounce.Status.Solve_Succeeded, jax.tree.map, int,
        functools.partial(jax.tree.map, a=0), functools.partial(jax.tree.map, a=1),
        Pattern([0], [1], (2, 2)), Pattern([0], [1], (2, 3)),
    ]  # fmt: skip
    digests = [fingerprint(value) for value in values]
    assert len(set(digests)) == len(values)
    assert digests[-1] == fingerprint(Pattern([0], [1], (2, 3)))
    for unknown in (object(), lambda: 0, Colour.RED, Pair(1, 2), Module(1.0), module_function, np.array([None])):
        with pytest.raises(UnknownError):
            fingerprint(("nested", [unknown]))
    assert surroundings() == surroundings() and len(surroundings()) == 64


def test_what_cannot_be_told_is_compiled_and_not_kept(store):
    assert np.isfinite(small(Module(1.0))(MATRIX, VECTOR)[1]).all()
    assert entries(store) == []
