import pytest

from agent.client.messages import Messages, UnreadableBodyError


def framed(*bodies):
    return b"".join(b"\0" + len(body).to_bytes(4) + body for body in bodies)


def taken(messages):
    return [messages.take() for _ in range(len(messages.ready))]


BODIES = [b"", b"a", b"bc" * 300, b"", b"last"]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 64, 10_000])
def test_messages_come_whole_whatever_the_pieces(size):
    messages, body = Messages(), framed(*BODIES)
    for at in range(0, len(body), size):
        messages.add(body[at : at + size])
    assert taken(messages) == BODIES
    assert not messages.broken_off
    assert messages.waiting_bytes == 0


def test_every_cut_in_two():
    body = framed(b"one", b"", b"three")
    for at in range(len(body) + 1):
        messages = Messages()
        messages.add(body[:at])
        messages.add(body[at:])
        assert taken(messages) == [b"one", b"", b"three"]


def test_a_message_that_is_not_complete_is_known():
    for end in range(1, 9):
        messages = Messages()
        messages.add(framed(b"abcd")[:end])
        assert messages.broken_off
        assert not messages.ready


def test_what_waits_is_counted():
    messages = Messages()
    messages.add(framed(b"abc", b"de"))
    assert messages.waiting_bytes == 5
    messages.take()
    assert messages.waiting_bytes == 2


def test_a_message_over_the_bound_is_refused_by_its_length_alone():
    messages = Messages(10)
    messages.add(framed(b"x" * 10))
    assert taken(messages) == [b"x" * 10]
    with pytest.raises(UnreadableBodyError, match="11 bytes"):
        messages.add(framed(b"x" * 11)[:5])
    with pytest.raises(UnreadableBodyError, match="11 bytes"):
        Messages(10).add(framed(b"x" * 11))


def test_a_compressed_message_was_not_asked_for():
    with pytest.raises(UnreadableBodyError, match="compressed"):
        Messages().add(b"\1\0\0\0\1x")
