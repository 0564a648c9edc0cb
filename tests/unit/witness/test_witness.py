"""The log: one JSON object a line, whatever it is told, and never an exception."""

import enum
import io
import json
import logging
import string
import subprocess
import sys
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.witness import LINE_LENGTH_MAX, MEMBERS_MAX, TEXT_LENGTH_MAX, LibraryLog, LogWitness

VISIBLE = set(string.printable) - set("\t\r\n\x0b\x0c")


class StillClock:
    """A clock that stands."""

    def unix_us(self):
        return 1_795_416_106_829_901

    def monotonic_ns(self):
        return 0


def told(event="call.ended", fields=None, *, within=LINE_LENGTH_MAX):
    """What the log's reader reads of one event."""
    out = io.StringIO()
    LogWitness(StillClock(), out).tell(event, fields or {})
    text = out.getvalue()
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert set(text) - {"\n"} <= VISIBLE
    assert len(text) <= within + 1
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_an_event_in_cloud_loggings_form():
    assert told("call.settled", {"request": "req-1", "state": "succeeded"}) == {
        "severity": "INFO",
        "message": "call.settled",
        "timestampSeconds": 1_795_416_106,
        "timestampNanos": 829_901_000,
        "request": "req-1",
        "state": "succeeded",
    }


@pytest.mark.parametrize(
    "event, severity",
    [
        ("call.settled", "INFO"),
        ("server.started", "INFO"),
        ("call.refused", "NOTICE"),
        ("upstream.failed", "WARNING"),
        ("keys.fetch_failed", "WARNING"),
        ("call.failed", "ERROR"),
        ("tool.failed", "ERROR"),
        ("something.new_failed", "ERROR"),
        ("effects.abandoned", "ERROR"),
        ("process.failed", "CRITICAL"),
    ],
)
def test_how_severe_an_event_is(event, severity):
    assert told(event)["severity"] == severity


class Colour(enum.Enum):
    """No string."""

    RED = 1


class Silent:
    """Cannot even be shown."""

    def __str__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value, shown",
    [
        (None, None),
        (True, True),
        (7, 7),
        (2**63 - 1, 2**63 - 1),
        (2**64, "an integer of 65 bits"),
        (0.25, 0.25),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (b"\x00\xff", "b'\\x00\\xff'"),
        (Colour.RED, "Colour.RED"),
        (Silent(), "a Silent that cannot be shown"),
        (("a", 1), ["a", 1]),
        ({"a": {"b": (1,)}}, {"a": {"b": [1]}}),
        ({1: "a", Silent(): "b"}, {"1": "a", "a Silent that cannot be shown": "b"}),
        ("\ud800", "\ud800"),
        ("delete \x7f, e acute \xe9", "delete \x7f, e acute \xe9"),
    ],
)
def test_every_value_has_a_form(value, shown):
    assert told(fields={"value": value})["value"] == shown


def test_an_integer_that_python_does_not_even_write():
    assert told(fields={"value": 10**5_000})["value"] == "an integer of 16610 bits"


def test_a_circle_is_cut():
    circle = {}
    circle["circle"] = circle
    assert "..." in str(told(fields=circle))


def test_a_long_text_loses_its_middle():
    text = told(fields={"traceback": "a" * TEXT_LENGTH_MAX + "the end"})["traceback"]
    assert len(text) == TEXT_LENGTH_MAX + 5
    assert text.endswith("the end")


def test_a_line_is_bounded_whatever_it_is_told():
    many = {f"field{number}": "\u202e" * TEXT_LENGTH_MAX for number in range(1_000)}
    line = told(fields=many)
    assert line["message"] == "call.ended"
    assert line["cut"].endswith("characters")
    assert len(told(fields={"list": list(range(1_000))})["list"]) == MEMBERS_MAX


def test_a_field_cannot_take_the_logs_own_places():
    line = told("call.refused", {"severity": "DEBUG", "message": "nothing", "timestampSeconds": 0})
    assert (line["severity"], line["message"], line["timestampSeconds"]) == ("NOTICE", "call.refused", 1_795_416_106)
    assert (line["severity_"], line["message_"]) == ("DEBUG", "nothing")


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
            max_leaves=5,
        ),
        max_size=5,
    )
)
@settings(deadline=None)
def test_anything_is_one_line_of_json(fields):
    told(fields=fields)


class Broken(io.StringIO):
    """A stream that cannot be written."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device"), BlockingIOError()])
def test_a_stream_that_cannot_be_written_loses_the_line_and_not_the_call(error):
    LogWitness(StillClock(), Broken(error)).tell("call.ended", {})


def test_a_closed_stream_too():
    out = io.StringIO()
    out.close()
    LogWitness(StillClock(), out).tell("call.ended", {})


def heard(*records):
    """What the witness's lines say of records that a library logged."""
    out = io.StringIO()
    hearing = LibraryLog(LogWitness(StillClock(), out))
    for level, message, args, error in records:
        hearing.handle(logging.LogRecord("some.library", level, "file.py", 1, message, args, error))
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_what_a_library_logs_is_data():
    try:
        int("\nno number")
    except ValueError:
        raised = sys.exc_info()
    warned, failed = heard(
        (logging.WARNING, "bad frame %s", ('\n{"severity": "INFO", "message": "call.settled"}\x1b[31m',), None),
        (logging.ERROR, "it failed", (), raised),
    )
    assert (warned["severity"], warned["message"], warned["logger"]) == ("WARNING", "library.logged", "some.library")
    assert warned["text"].startswith('bad frame \n{"severity"')
    assert failed["severity"] == "ERROR"
    assert "ValueError: invalid literal for int()" in failed["traceback"]


def test_a_library_that_logs_nonsense_breaks_nothing():
    lines = heard((logging.ERROR, "%d apples", ("five",), None), (logging.CRITICAL, Silent(), (), (None, None, None)))
    assert [line["text"] for line in lines] == ["%d apples", "a Silent that cannot be shown"]


EVERYTHING = """
import asyncio, gc, logging, sys, threading, warnings
from gateway.terms.clock import SystemClock
from gateway.witness import LogWitness, hear_everything

class Finalized:
    def __del__(self):
        raise ValueError("finalizer\\n{}")

hear_everything(LogWitness(SystemClock()))
Finalized()
logging.getLogger("asyncio").error("a task\\nof asyncio")
warnings.warn("a warning\\nof two lines")
thread = threading.Thread(target=lambda: 1 / 0, name="writer")
thread.start(); thread.join()
raise RuntimeError("the end\\nof it")
"""


def test_no_other_way_to_standard_error_is_left():
    done = subprocess.run([sys.executable, "-c", EVERYTHING], capture_output=True, text=True, check=False, timeout=30)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["severity"], line["message"]) for line in lines] == [
        ("CRITICAL", "process.failed"),
        ("ERROR", "library.logged"),
        ("WARNING", "library.logged"),
        ("CRITICAL", "process.failed"),
        ("CRITICAL", "process.failed"),
    ]
    assert "finalizer\n{}" in lines[0]["traceback"]
    assert lines[3]["place"] == "the thread writer"
    assert lines[4]["traceback"].endswith("RuntimeError: the end\nof it\n")
    assert done.returncode == 1


def test_warnings_stay_as_they_were_in_this_process():
    with pytest.warns(UserWarning, match="here"):
        warnings.warn("here", stacklevel=1)
