"""Who waits for a compilation is told so: once, on standard error, and only where it is wanted."""

import time

import jax
import pytest

from pounce import _waiting
from pounce._host_solve import HostSolver
from pounce._waiting import Wait, compiling, one_solve, speaking
from pounce.options import split_options


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(_waiting, "PATIENCE", 0.05)


def test_what_takes_long_is_said_once(capsys):
    slow = speaking(lambda seconds: time.sleep(seconds) or "answer")
    with one_solve(Wait(4, 1, aloud=True)):
        with compiling():
            time.sleep(0.04)
        assert capsys.readouterr().err == ""
        assert slow(0.1) == "answer"  # the time of both adds up
        heard = capsys.readouterr().err
        assert slow(0.1) == speaking(lambda: "answer")() == "answer"
    assert heard.startswith("pounce: compiling for 4 variables, 1 row") and heard.count("\n") == 1
    assert ("cache.enable()" in heard) is (jax.config.jax_compilation_cache_dir is None)
    assert capsys.readouterr() == ("", "")


def test_errors_pass_through_and_nothing_is_said_after_them(capsys):
    wait = Wait(1, 0, aloud=True)
    with pytest.raises(ZeroDivisionError), one_solve(wait):
        speaking(lambda: 1 // 0)()
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("aloud", [False, None])
def test_nothing_is_said_to_nobody(aloud, capsys):
    with Wait(1, 1, aloud).during():  # pytest's standard error is no terminal
        time.sleep(0.1)
    with compiling():  # outside of any solve
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "defaults", "aloud"),
    [
        ({}, {}, True),
        ({"print_level": 0}, {}, False),
        ({}, {"print_level": 0}, None),
        ({"disp": True}, {"print_level": 0}, True),
        ({"disp": False}, {"print_level": 0}, False),
    ],
)
def test_silence_that_was_asked_for_is_kept(options, defaults, aloud):
    assert HostSolver(split_options(options, defaults))._aloud is aloud
