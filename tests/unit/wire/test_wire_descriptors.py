"""The index of the compiled descriptors, judged by google.protobuf."""

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2, status_pb2

from gateway.wire.descriptors import COMPILED, read_descriptors
from generated.agentic.gateway.v1.services import METHODS


@pytest.fixture(scope="module")
def compiled():
    return FileDescriptorSet.FromString(COMPILED.read_bytes())


def test_every_file_is_passed_on_as_it_is(compiled):
    files = read_descriptors().files
    assert {name: file.descriptor for name, file in files.items()} == {
        file.name: file.SerializeToString() for file in compiled.file
    }
    assert {name: file.imports for name, file in files.items()} == {
        file.name: tuple(file.dependency) for file in compiled.file
    }


def test_every_symbol_is_found_where_it_is_declared(compiled):
    descriptors = read_descriptors()
    pool = DescriptorPool()
    for file in compiled.file:
        pool.Add(file)
    methods = {method.path[1:].replace("/", ".") for method in METHODS}
    assert methods <= descriptors.symbols.keys()
    others = {f"{file.package}.{service.name}" for file in compiled.file for service in file.service}
    for symbol, file in descriptors.symbols.items():
        if symbol.rpartition(".")[0] in others:
            # The pool finds a method only through its service.
            service, _, method = symbol.rpartition(".")
            assert method in pool.FindServiceByName(service).methods_by_name
            continue
        assert pool.FindFileContainingSymbol(symbol).name == file.name
    names = {f"{file.package}.{message.name}" for file in compiled.file for message in file.message_type}
    assert names <= descriptors.messages


def test_nested_types_have_their_full_names():
    symbols = read_descriptors().symbols
    assert "grpc.health.v1.HealthCheckResponse.ServingStatus" in symbols
    assert "grpc.health.v1.ServingStatus" not in symbols


def test_a_closure_has_each_file_once(tmp_path):
    files = FileDescriptorSet()
    for name, imports in (("a", ["b", "c"]), ("b", ["d"]), ("c", ["d", "a"]), ("d", [])):
        files.file.add(name=name, dependency=imports)
    compiled = tmp_path / "descriptors.bin"
    compiled.write_bytes(files.SerializeToString())
    descriptors = read_descriptors(compiled)
    assert [file.name for file in descriptors.closure(descriptors.files["a"])] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("content", [b"\x0a\x05abc", b"\x0d1234", b"\x0a\xff", b"\x0a"])
def test_what_is_no_set_of_descriptors_is_refused(tmp_path, content):
    compiled = tmp_path / "descriptors.bin"
    compiled.write_bytes(content)
    with pytest.raises(ValueError, match=r"run protos/generate\.py"):
        read_descriptors(compiled)


def shape(message):
    """The fields of a message by name: number, type, and the message that each holds."""
    return {
        field.name: (
            *(field.number, field.type, field.is_repeated),
            field.message_type.full_name if field.message_type else "",
        )
        for field in message.fields
    }


@pytest.mark.parametrize(
    "theirs",
    [
        status_pb2.Status,
        error_details_pb2.ErrorInfo,
        error_details_pb2.RetryInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.BadRequest.FieldViolation,
    ],
)
def test_the_details_of_a_refusal_are_described_as_google_describes_them(theirs):
    """What the gateway never sends is left out; everything else has the same name, number and type."""
    descriptors, pool = read_descriptors(), DescriptorPool()
    name = theirs.DESCRIPTOR.full_name
    for file in reversed(list(descriptors.closure(descriptors.symbols[name]))):
        pool.AddSerializedFile(file.descriptor)
    own, google = shape(pool.FindMessageTypeByName(name)), shape(theirs.DESCRIPTOR)
    assert own
    assert own.items() <= google.items()
