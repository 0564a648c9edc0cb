"""The bounds of the wire: none may be absent or absurd."""

from dataclasses import fields

import pytest

from gateway.terms.limits import CALLS_RUNNING_MAX, MESSAGE_BYTES_MAX
from gateway.wire.config import WireConfig


def test_the_defaults_are_the_houses():
    config = WireConfig()
    assert (config.message_bytes_max, config.calls_running_max) == (MESSAGE_BYTES_MAX, CALLS_RUNNING_MAX)


def test_a_drain_ends_before_cloud_run_kills():
    config = WireConfig()
    assert config.drain_s + config.drain_end_s + config.linger_s < 8.9


@pytest.mark.parametrize("name", [bound.name for bound in fields(WireConfig)])
@pytest.mark.parametrize("value", [0, -1])
def test_no_bound_is_nothing(name, value):
    with pytest.raises(ValueError, match=f"wire: {name} must be"):
        WireConfig(**{name: value})


@pytest.mark.parametrize("name", ["stream_window_bytes", "connection_window_bytes"])
@pytest.mark.parametrize("value", [65_534, 2**31])
def test_windows_are_http2s(name, value):
    with pytest.raises(ValueError, match="must be 65535 to 2147483647"):
        WireConfig(**{name: value})
