"""Counts what the interpreter does, between SIGUSR1 and SIGUSR2, in a process that finds this on its PYTHONPATH.

For `bench.steps` alone: it makes the process far slower.
"""

import json
import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import TraceFunction

_calls: Counter[CodeType] = Counter()
_steps: Counter[CodeType] = Counter()
_counting = False


def _called(frame: FrameType, event: str, _: object) -> "TraceFunction | None":
    if not _counting or event != "call":
        return None
    _calls[frame.f_code] += 1
    frame.f_trace_opcodes, frame.f_trace_lines = True, False
    return _stepped


def _stepped(frame: FrameType, event: str, _: object) -> "TraceFunction | None":
    if event == "opcode":
        _steps[frame.f_code] += 1
    return _stepped


def _begin(*_: object) -> None:
    global _counting  # noqa: PLW0603 - a process has one count
    _counting = True
    sys.settrace(_called)


def _end(*_: object) -> None:
    global _counting  # noqa: PLW0603 - see above
    _counting = False
    sys.settrace(None)
    told = [(code.co_filename, code.co_qualname, _calls[code], steps) for code, steps in _steps.items()]
    unfinished = Path(os.environ["BENCH_STEPS"] + ".part")
    unfinished.write_text(json.dumps(told))
    unfinished.rename(os.environ["BENCH_STEPS"])


if "BENCH_STEPS" in os.environ:
    threading.settrace(_called)
    signal.signal(signal.SIGUSR1, _begin)
    signal.signal(signal.SIGUSR2, _end)
