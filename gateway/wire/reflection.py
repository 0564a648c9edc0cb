"""Server reflection, v1 and v1alpha: tools such as grpcurl learn the contract from the server that keeps it.

Nothing secret is told: the contract is published with the source. The rules:
https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Final

from grpclib.const import Status

from gateway.terms.passage import Passage
from gateway.wire.descriptors import Descriptors, File
from gateway.wire.table import Table, bind
from generated.grpc.reflection.v1 import (
    ErrorResponse,
    ExtensionNumberResponse,
    FileDescriptorResponse,
    ListServiceResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
    ServiceResponse,
)
from generated.grpc.reflection.v1.services import METHODS

_ALPHA: Final = tuple(replace(method, path=method.path.replace(".v1.", ".v1alpha.")) for method in METHODS)
"""The two versions differ in their name alone, so one set of messages serves both."""


class ServerReflection:
    """Answers from the descriptors that were compiled with the code."""

    __slots__ = ("_answers", "_descriptors", "_services")

    def __init__(self, descriptors: Descriptors, services: Iterable[str]) -> None:
        self._descriptors = descriptors
        self._services = tuple(sorted(services))
        self._answers: tuple[tuple[str, Callable[[str, set[str]], ServerReflectionResponse]], ...] = (
            ("file_by_filename", self._by_name),
            ("file_containing_symbol", self._by_symbol),
            ("all_extension_numbers_of_type", self._extension_numbers),
            ("list_services", self._list),
        )

    async def server_reflection_info(
        self, requests: AsyncIterator[ServerReflectionRequest], _passage: Passage
    ) -> AsyncGenerator[ServerReflectionResponse, None]:
        """One answer to each question; what is not here is an answer too, and the stream goes on."""
        sent: set[str] = set()
        async for request in requests:
            answer = self._answer(request, sent)
            answer.valid_host = request.host
            answer.original_request = request
            yield answer

    def _answer(self, request: ServerReflectionRequest, sent: set[str]) -> ServerReflectionResponse:
        for question, answer in self._answers:
            asked = getattr(request, question)
            if asked is not None:
                return answer(asked, sent)
        if request.file_containing_extension is not None:
            return _not_found("the messages of this contract have no extensions")
        return _error(Status.INVALID_ARGUMENT, "ask one question that this version of reflection knows")

    def _by_name(self, name: str, sent: set[str]) -> ServerReflectionResponse:
        return self._files(self._descriptors.files.get(name), sent, "there is no such file")

    def _by_symbol(self, symbol: str, sent: set[str]) -> ServerReflectionResponse:
        return self._files(self._descriptors.symbols.get(symbol.removeprefix(".")), sent, "there is no such symbol")

    def _extension_numbers(self, name: str, _sent: set[str]) -> ServerReflectionResponse:
        if name not in self._descriptors.messages:
            return _not_found("there is no such message")
        return ServerReflectionResponse(all_extension_numbers_response=ExtensionNumberResponse(base_type_name=name))

    def _list(self, _text: str, _sent: set[str]) -> ServerReflectionResponse:
        services = [ServiceResponse(name=name) for name in self._services]
        return ServerReflectionResponse(list_services_response=ListServiceResponse(service=services))

    def _files(self, file: File | None, sent: set[str], otherwise: str) -> ServerReflectionResponse:
        if file is None:
            return _not_found(otherwise)
        # The file itself always comes: whoever asks for it again has forgotten it.
        fresh = [each for each in self._descriptors.closure(file) if each is file or each.name not in sent]
        sent.update(each.name for each in fresh)
        found = FileDescriptorResponse(file_descriptor_proto=[each.descriptor for each in fresh])
        return ServerReflectionResponse(file_descriptor_response=found)


def reflected(table: Table, descriptors: Descriptors) -> Table:
    """A table with both versions of reflection, which tell of all its services and of themselves."""
    own = {method.service for method in (*METHODS, *_ALPHA)}
    reflection = ServerReflection(descriptors, {*table.services, *own})
    return table.joined(bind(METHODS, reflection)).joined(bind(_ALPHA, reflection))


def _not_found(sentence: str) -> ServerReflectionResponse:
    return _error(Status.NOT_FOUND, sentence)


def _error(status: Status, sentence: str) -> ServerReflectionResponse:
    return ServerReflectionResponse(error_response=ErrorResponse(error_code=status.value, error_message=sentence))
