"""The index of the compiled descriptors, judged by google.protobuf."""

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

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
