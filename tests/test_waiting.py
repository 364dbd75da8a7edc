"""Who waits for a compilation is told so: once, in the log, and only where it is wanted."""

import logging
import time

import pytest

from pounce import _waiting
from pounce._executables import Store
from pounce._host_solve import HostSolver
from pounce._waiting import Wait, compiling, one_solve, speaking
from pounce.options import split_options


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(_waiting, "PATIENCE", 0.05)


def heard(caplog) -> list[str]:
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    return said


@pytest.mark.parametrize("keeps", [True, False])
def test_what_takes_long_is_said_once(keeps, caplog, tmp_path, monkeypatch):
    monkeypatch.setattr(_waiting, "current", lambda: Store(tmp_path / "programs") if keeps else None)
    slow = speaking(lambda seconds: time.sleep(seconds) or "answer")
    with one_solve(Wait(4, 1, aloud=True)):
        with compiling():
            time.sleep(0.04)
        assert heard(caplog) == []
        assert slow(0.1) == "answer"  # the time of both adds up
        (said,) = heard(caplog)
        assert slow(0.1) == speaking(lambda: "answer")() == "answer"
    assert said.startswith("pounce: compiling for 4 variables, 1 row, once")
    assert (str(tmp_path) in said) is keeps
    assert heard(caplog) == []


def test_errors_pass_through_and_nothing_is_said_after_them(caplog):
    wait = Wait(1, 0, aloud=True)
    with pytest.raises(ZeroDivisionError), one_solve(wait):
        speaking(lambda: 1 // 0)()
    time.sleep(0.1)
    assert heard(caplog) == []


@pytest.mark.parametrize("aloud", [False, None])
def test_nothing_is_said_to_nobody(aloud, caplog, capsys):
    with Wait(1, 1, aloud).during():  # pytest's standard error is no terminal
        time.sleep(0.1)
    with compiling():  # outside of any solve
        time.sleep(0.1)
    assert heard(caplog) == []
    assert capsys.readouterr().err == ""


def test_who_listens_to_the_log_hears_it_all_the_same(caplog):
    caplog.set_level(logging.INFO, logger="pounce")
    with Wait(2, 0).during():
        time.sleep(0.1)
    assert [record.levelname for record in caplog.records] == ["INFO"]


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
