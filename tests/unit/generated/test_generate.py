"""The command that writes `generated/`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GENERATE = Path(__file__).parents[3] / "protos" / "generate.py"


def generate(*arguments, cwd=None):
    done = subprocess.run([sys.executable, GENERATE, *arguments], capture_output=True, text=True, cwd=cwd, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_tree_is_what_the_protos_say(tmp_path):
    assert generate("--check", cwd=tmp_path) == (0, "")


def test_a_difference_is_found_and_shown(tmp_path):
    out = tmp_path / "generated"
    shutil.copytree(GENERATE.parents[1] / "generated", out, ignore=shutil.ignore_patterns("__pycache__"))
    codec = out / "agentic" / "wire" / "v1" / "codec.py"
    codec.write_text(codec.read_text().replace("MAX_DEPTH - 1", "MAX_DEPTH").replace("raise cut_off", "return cut_off"))
    (out / "message_pool.py").unlink()
    (out / "handwritten.py").touch()
    code, said = generate("--check", "--out", out)
    assert code == 1
    assert "agentic/wire/v1/codec.py: " in said
    assert "return cut_off" in said
    assert "message_pool.py: missing" in said
    assert "handwritten.py: comes from no proto" in said
    assert "Run: python protos/generate.py" in said
    assert generate("--out", out)[0] == 0
    assert generate("--check", "--out", out) == (0, "")


def test_foreign_files_are_never_deleted(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not lose")
    code, said = generate("--out", tmp_path)
    assert (code, "files that this command did not write" in said) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


PROTO = 'syntax = "proto3"; package a.v1; '
REFUSED = {
    "timestamp": (
        PROTO + 'import "google/protobuf/timestamp.proto"; message M { google.protobuf.Timestamp at = 1; }',
        "a.v1.M.at: google.protobuf.Timestamp is not handled exactly",
    ),
    "duration in a list": (
        PROTO + 'import "google/protobuf/duration.proto"; message M { repeated google.protobuf.Duration d = 1; }',
        "a.v1.M.d: google.protobuf.Duration is not handled exactly",
    ),
    "wrapper in a oneof": (
        PROTO + 'import "google/protobuf/wrappers.proto"; message M { oneof o { google.protobuf.Int64Value n = 1; } }',
        "a.v1.M.n: google.protobuf.Int64Value is not handled exactly",
    ),
    "field mask": (
        PROTO + 'import "google/protobuf/field_mask.proto"; message M { google.protobuf.FieldMask m = 1; }',
        "a.v1.M.m: google.protobuf.FieldMask is not handled exactly",
    ),
    "struct in a map": (
        PROTO + 'import "google/protobuf/struct.proto"; message M { map<string, google.protobuf.Struct> s = 1; }',
        "a.v1.M.s: google.protobuf.Struct is not handled exactly",
    ),
    "bool as a map's key": (PROTO + "message M { map<bool, string> b = 1; }", "a.v1.M.b: a bool as the key"),
    "empty of google in a method": (
        PROTO
        + 'import "google/protobuf/empty.proto"; service S { rpc R(google.protobuf.Empty) returns (M); } message M {}',
        "a.v1.S.R: google.protobuf.Empty is not handled exactly",
    ),
    "a required field of proto2": (
        'syntax = "proto2"; package a.v1; message M { required string s = 1; }',
        "a.v1.M.s: groups and required fields belong to proto2",
    ),
    "a group of proto2": (
        'syntax = "proto2"; package a.v1; message M { optional group G = 2 { } }',
        "a.v1.M.g: groups and required fields belong to proto2",
    ),
    "no syntax": ("package a.v1; message M { optional string s = 1; }", 'a.proto: say syntax = "proto3"'),
    "no package": ('syntax = "proto3"; message M {}', "a.proto: declare a package"),
    "two types, one class": (
        PROTO + "message Foo { message Bar {} } message FooBar {}",
        "a.v1: rename a type; the Python class FooBar",
    ),
    "a class of Python's own": (PROTO + "message Exception {}", "a.v1: rename a type; the Python class Exception"),
    "not a proto": ("this is no proto", "a.proto:1:1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_sentence_that_names_the_field(tmp_path, name):
    source, sentence = REFUSED[name]
    (tmp_path / "a.proto").write_text(source)
    code, said = generate("--protos", tmp_path, "--out", tmp_path / "out")
    assert (code, sentence in said, "Traceback" in said) == (1, True, False), said
    assert not (tmp_path / "out").exists()


def test_a_folder_without_protos_is_refused(tmp_path):
    code, said = generate("--protos", tmp_path, "--out", tmp_path / "out")
    assert (code, "there is no .proto file" in said) == (1, True)


def test_what_is_google_s_is_described_and_no_code_is_made_of_it(tmp_path):
    folder = tmp_path / "protos" / "google" / "rpc"
    folder.mkdir(parents=True)
    content = 'import "google/protobuf/any.proto"; message Status { repeated google.protobuf.Any details = 3; }'
    (folder / "status.proto").write_text(f'syntax = "proto3"; package google.rpc; {content}')
    (tmp_path / "protos" / "a.proto").write_text(PROTO + "message M { int32 n = 1; }")
    code, said = generate("--protos", tmp_path / "protos", "--out", tmp_path / "out")
    assert code == 0, said
    assert b"google.rpc" in (tmp_path / "out" / "descriptors.bin").read_bytes()
    assert not (tmp_path / "out" / "google").exists()
    using = 'import "google/rpc/status.proto"; message M { google.rpc.Status status = 1; }'
    (tmp_path / "protos" / "a.proto").write_text(PROTO + using)
    code, said = generate("--protos", tmp_path / "protos", "--out", tmp_path / "out")
    assert (code, "a.v1.M.status: google.rpc.Status is not handled exactly" in said) == (1, True), said
