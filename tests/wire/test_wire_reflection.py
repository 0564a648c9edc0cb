"""Server reflection, asked as grpc's own tools ask: raw questions over grpcio, and grpcurl where it is installed."""

import asyncio
import json

import pytest
from go_programs import go_program, not_found
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from wire_clients import grpcio

from gateway.terms.ids import RuleId
from gateway.terms.verdict import Kind, Refusal, RefusedError, Violation
from generated.grpc.reflection.v1 import ExtensionRequest, ServerReflectionRequest
from generated.grpc.reflection.v1.codec import decode_ServerReflectionResponse, encode_ServerReflectionRequest

REFUSAL = Refusal(
    kind=Kind.EXHAUSTED,
    reason="test.full",
    sentence="call again later",
    rules=(RuleId("a-rule"),),
    retry_after_ms=1_500,
    violations=(Violation(field="model", description="name one"),),
)
VERSIONS = pytest.mark.parametrize("version", ["v1", "v1alpha"])


async def asked(served, *questions, version="v1"):
    async with grpcio(served) as channel:
        call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=encode_ServerReflectionRequest,
            response_deserializer=decode_ServerReflectionResponse,
        )
        return [answer async for answer in call(iter([ServerReflectionRequest(**each) for each in questions]))]


def names(answer):
    return [FileDescriptorProto.FromString(raw).name for raw in answer.file_descriptor_response.file_descriptor_proto]


@VERSIONS
async def test_all_services_are_listed(serve, version):
    (answer,) = await asked(await serve(), {"list_services": "", "host": "here"}, version=version)
    assert [service.name for service in answer.list_services_response.service] == [
        "agentic.gateway.v1.ModelService",
        "agentic.gateway.v1.ToolService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ]
    assert answer.valid_host == "here"
    assert answer.original_request == ServerReflectionRequest(list_services="", host="here")


@VERSIONS
async def test_files_are_found_by_name_and_symbol_each_import_once(serve, version):
    answers = await asked(
        await serve(),
        {"file_by_filename": "agentic/gateway/v1/tool.proto"},
        {"file_containing_symbol": "agentic.gateway.v1.ModelService.Chat"},
        {"file_containing_symbol": "agentic.gateway.v1.ModelService"},
        version=version,
    )
    first, second, third = map(names, answers)
    assert first[0] == "agentic/gateway/v1/tool.proto"
    assert second[0] == "agentic/gateway/v1/model.proto"
    assert not set(first) & set(second)
    assert third == ["agentic/gateway/v1/model.proto"]


async def test_what_is_not_here_is_an_answer_and_the_stream_goes_on(serve):
    answers = await asked(
        await serve(),
        {"file_by_filename": "no.proto"},
        {"file_containing_symbol": "no.Symbol"},
        {"file_containing_extension": ExtensionRequest(containing_type="no.Message", extension_number=1)},
        {"all_extension_numbers_of_type": "no.Message"},
        {},
        {"all_extension_numbers_of_type": "agentic.gateway.v1.ChatRequest"},
    )
    assert [answer.error_response.error_code for answer in answers[:5]] == [5, 5, 5, 5, 3]
    assert answers[5].all_extension_numbers_response.base_type_name == "agentic.gateway.v1.ChatRequest"
    assert answers[5].all_extension_numbers_response.extension_number == []


@pytest.fixture(scope="module")
def program():
    found = go_program("grpcurl")
    if found is None:
        pytest.skip(not_found("grpcurl"))
    return found


async def test_grpcurl_lists_describes_and_calls(serve, program):
    served = await serve()

    async def grpcurl(*arguments):
        command = (program, "-plaintext", "-max-time", "10", *arguments)
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode()

    assert "agentic.gateway.v1.ModelService" in await grpcurl(served.target, "list")
    assert "rpc Chat " in await grpcurl(served.target, "describe", "agentic.gateway.v1.ModelService")
    ask = ("-d", '{"model": "abc"}', served.target)
    counted = json.loads(await grpcurl(*ask, "agentic.gateway.v1.ModelService/CountTokens"))
    assert counted == {"inputTokens": 3} or counted == {"inputTokens": "3"}
    assert (await grpcurl(*ask, "agentic.gateway.v1.ModelService/Chat")).count("sequence") == 3


async def test_grpcurl_shows_the_details_of_a_refusal_in_clear(serve, program):
    async def count_tokens(request, passage):
        raise RefusedError(REFUSAL)

    served = await serve(count_tokens=count_tokens)
    command = (program, "-plaintext", "-format-error", "-max-time", "10", served.target)
    path = "agentic.gateway.v1.ModelService/CountTokens"
    process = await asyncio.create_subprocess_exec(*command, path, stderr=asyncio.subprocess.PIPE)
    _, told = await process.communicate()
    details = {detail.pop("@type"): detail for detail in json.loads(told)["details"]}
    info = details.pop("type.googleapis.com/google.rpc.ErrorInfo")
    assert (info["reason"], info["domain"]) == ("test.full", "agentic.gateway")
    assert info["metadata"]["rules"] == "a-rule"
    assert details.pop("type.googleapis.com/google.rpc.RetryInfo") == {"retryDelay": "1.500s"}
    violations = [{"field": "model", "description": "name one"}]
    assert details.pop("type.googleapis.com/google.rpc.BadRequest") == {"fieldViolations": violations}
    assert not details
