"""What the generator makes and refuses for JSON's sake."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

GENERATE = Path(__file__).parents[3] / "protos" / "generate.py"


@pytest.fixture
def generated_from(tmp_path, monkeypatch):
    """Generates a package from protos by their file names; gives the process, and makes the package importable."""

    def generate(name, **protos):
        for file, source in protos.items():
            (tmp_path / f"{file}.proto").write_text(f'syntax = "proto3"; {source}')
        monkeypatch.syspath_prepend(tmp_path)
        command = [sys.executable, GENERATE, "--protos", tmp_path, "--out", tmp_path / name]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return generate


def test_a_json_name_that_is_another_fields_name_is_refused(generated_from):
    done = generated_from(
        "clash", a='package a.v1; message M { string a = 1 [json_name = "b"]; string b = 2 [json_name = "c"]; }'
    )
    assert done.returncode == 1
    assert "a.v1.M.a: rename it in JSON; b is the name of another field." in done.stderr


def test_enums_that_only_another_package_uses(generated_from):
    done = generated_from(
        "enums_apart",
        a="package a.v1; enum E { NONE = 0; ONE = 1; }",
        b='package b.v1; import "a.proto"; message M { a.v1.E e = 1; map<string, a.v1.E> es = 2; }',
    )
    assert done.returncode == 0, done.stderr
    binary = importlib.import_module("enums_apart.b.v1.codec")
    text = importlib.import_module("enums_apart.b.v1.json_codec")
    message = text.decode_M('{"e":"ONE","es":{"a":"ONE","b":5}}')
    assert binary.decode_M(binary.encode_M(message)) == message
    assert text.encode_M(message) == b'{"e":"ONE","es":{"a":"ONE","b":5}}'
