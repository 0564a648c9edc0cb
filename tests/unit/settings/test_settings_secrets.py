"""Secrets come by reference only, are found before the gateway listens, and are never repeated."""

import os

import pytest
from example_file import EXAMPLE, TEXT, VARIABLES, changed, faults

from gateway.settings.reading import read_settings

PLACE = "venues.alpaca-paper.secret_key"


def with_reference(reference):
    return changed('"env:EXCHANGE_SECRET_KEY"', f'"{reference}"')


def test_secrets_of_the_environment_are_found():
    settings = read_settings(EXAMPLE, VARIABLES)
    assert settings.secrets["env:EXCHANGE_SECRET_KEY"] == "very-secret-value"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_file_may_end_its_line(tmp_path, ending):
    (tmp_path / "key").write_text("very-secret-value" + ending, newline="")
    path = tmp_path / "gateway.toml"
    path.write_text(with_reference("file:key"))
    assert read_settings(path, VARIABLES).secrets["file:key"] == "very-secret-value"


def test_settings_never_show_a_secret():
    assert "very-secret-value" not in repr(read_settings(EXAMPLE, VARIABLES))


@pytest.mark.parametrize("reference", ["very-secret-value", "env:", "file:", "ENV:X", "env:very secret", "", "env:a=b"])
def test_what_is_no_reference_is_refused_and_not_repeated(tmp_path, reference):
    found = faults(tmp_path, with_reference(reference))
    assert found == [f"{PLACE}: write env:NAME or file:PATH: the secret itself never stands in this file"]


@pytest.mark.parametrize(
    "value, told",
    [
        ("", "set the environment variable EXCHANGE_SECRET_KEY: it is missing or empty"),
        ("very-secret\n", "the environment variable EXCHANGE_SECRET_KEY holds a line break, a blank or an invisible"),
        ("very secret", "the environment variable EXCHANGE_SECRET_KEY holds a line break, a blank or an invisible"),
        ("very-secrèt", "the environment variable EXCHANGE_SECRET_KEY holds a line break, a blank or an invisible"),
        ("x" * 4_097, "the environment variable EXCHANGE_SECRET_KEY has more than 4096 characters"),
    ],
)
def test_a_variable_that_holds_no_secret(tmp_path, value, told):
    (found,) = faults(tmp_path, TEXT, EXCHANGE_SECRET_KEY=value)
    assert found.startswith(f"{PLACE}: {told}")
    assert "very" not in found


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda path: None, "make {path} readable: No such file or directory"),
        (lambda path: path.mkdir(), "make {path} readable: Is a directory"),
        (lambda path: path.write_text(""), "the file {path} is empty: put the secret there"),
        (lambda path: path.write_text("\n"), "the file {path} is empty: put the secret there"),
        (lambda path: path.write_text("very\nsecret\n"), "the file {path} holds a line break, a blank or an invisible"),
        (
            lambda path: path.write_text("very-secret\n\n"),
            "the file {path} holds a line break, a blank or an invisible",
        ),
        (lambda path: path.write_bytes(b"\xff\xfe"), "write visible ASCII characters into {path}: it holds others"),
        (lambda path: path.write_text("x" * 5_000), "the file {path} has more than 4096 characters"),
    ],
)
def test_a_file_that_holds_no_secret(tmp_path, make, told):
    path = tmp_path / "key"
    make(path)
    (found,) = faults(tmp_path, with_reference("file:key"))
    assert found.startswith(f"{PLACE}: {told.format(path=path)}")
    assert "very" not in found


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_others_keep(tmp_path):
    path = tmp_path / "key"
    path.write_text("very-secret")
    path.chmod(0)
    assert faults(tmp_path, with_reference("file:key")) == [f"{PLACE}: make {path} readable: Permission denied"]


def test_a_short_order_key_could_be_guessed(tmp_path):
    found = faults(tmp_path, TEXT, EXCHANGE_ORDER_KEY="k" * 31)
    assert found == ["venues.alpaca-paper.order_key: give it a secret of at least 32 characters"]


def test_all_missing_secrets_are_told_at_once(tmp_path):
    assert len(faults(tmp_path, TEXT, **dict.fromkeys(VARIABLES, ""))) == 3
