"""Clients that are programs of their own: curl, grpcurl, and Node with its libraries."""

import asyncio
import base64
import json
import shutil
import struct

from grpclib.const import Status
from real_calls import CHAT, DEADLINE_S, ERROR_INFO, EXECUTE, ROOT, Heard, error_info

PROGRAM_S = 2 * DEADLINE_S
"""A program that needs longer is ended."""

_ENVELOPE = struct.Struct(">BI")
_END_OF_STREAM = 2


class ProgramError(Exception):
    """A program did not do what it was asked; says what it said."""


async def run(*command, given=b"", cwd=None, may_fail=False):
    """Run a program and return its output and what it complained about."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PROGRAM_S):
            out, complaint = await process.communicate(given)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise ProgramError(f"{command[0]} did not end within {PROGRAM_S} s") from None
    if process.returncode and not may_fail:
        raise ProgramError(
            f"{command[0]} ended with {process.returncode}: {complaint.decode(errors='replace')[-2000:]}"
        )
    return out, complaint


def curl(*version):
    """curl with Connect's JSON over a version of HTTP."""

    async def ask(task, path, content_type, body):
        out, _ = await run(
            shutil.which("curl"),
            *version,
            *("--silent", "--show-error", "--no-buffer", "--max-time", DEADLINE_S),
            *("--header", f"Authorization: {task.authorization}", "--header", f"Content-Type: {content_type}"),
            *("--data-binary", "@-", "--write-out", "\n%{http_code} %{http_version}", f"{task.url}/{path}"),
            given=body,
        )
        answer, _, status = out.rpartition(b"\n")
        return answer, status.decode()

    async def client(task):
        spoken = "1.1" if "--http1.1" in version else "2"
        chat = json.dumps(task.chat).encode()
        chat = _ENVELOPE.pack(0, len(chat)) + chat
        answer, status = await ask(task, CHAT, "application/connect+json", chat)
        assert status == f"200 {spoken}"
        *events, (flag, end) = _envelopes(answer)
        assert (flag, "error" in end) == (_END_OF_STREAM, False)
        operation, status = await ask(task, EXECUTE, "application/json", json.dumps(task.small_order).encode())
        assert status == f"200 {spoken}"
        refusal, status = await ask(task, EXECUTE, "application/json", json.dumps(task.great_order).encode())
        assert status == f"403 {spoken}"
        refusal = json.loads(refusal)
        detail = next(one for one in refusal["details"] if one["type"] == ERROR_INFO)
        return Heard(
            events=[event for _, event in events],
            operation=json.loads(operation),
            code=refusal["code"],
            error_info=error_info(_unpadded(detail["value"])),
        )

    return client


def _envelopes(content):
    """The flags and JSON values of a Connect stream."""
    found = []
    while content:
        flag, size = _ENVELOPE.unpack_from(content)
        found.append((flag, json.loads(content[_ENVELOPE.size : _ENVELOPE.size + size])))
        content = content[_ENVELOPE.size + size :]
    return found


def _unpadded(text):
    return base64.b64decode(text + "=" * (-len(text) % 4))


def grpcurl(program):
    """grpcurl, which knows of the contract only what the gateway's reflection tells."""

    async def ask(task, path, request, may_fail=False):
        return await run(
            program,
            *("-plaintext", "-format-error", "-max-time", DEADLINE_S),
            *("-rpc-header", f"Authorization: {task.authorization}", "-d", "@", task.target, path),
            given=json.dumps(request).encode(),
            may_fail=may_fail,
        )

    async def client(task):
        services, _ = await run(program, "-plaintext", task.target, "list")
        assert {CHAT.split("/")[0], EXECUTE.split("/")[0]} <= set(services.decode().split())
        events, _ = await ask(task, CHAT, task.chat)
        operation, _ = await ask(task, EXECUTE, task.small_order)
        _, refusal = await ask(task, EXECUTE, task.great_order, may_fail=True)
        status = json.loads(refusal)
        detail = next(one for one in status["details"] if one["@type"] == f"type.googleapis.com/{ERROR_INFO}")
        return Heard(
            events=_values(events.decode()),
            operation=json.loads(operation),
            code=Status(status["code"]).name.lower(),
            # Reflection tells of google.rpc too, so grpcurl shows the reason in clear.
            error_info={name: value for name, value in detail.items() if name != "@type"},
        )

    return client


def _values(text):
    """JSON values that stand one behind the other."""
    decoder, found, text = json.JSONDecoder(), [], text.strip()
    while text:
        value, size = decoder.raw_decode(text)
        found.append(value)
        text = text[size:].lstrip()
    return found


def node(folder, script, **more):
    """A script under Node, in the folder where its libraries are."""

    async def client(task):
        given = task.as_json(root=str(ROOT), **more)
        out, _ = await run(shutil.which("node"), folder / script, given=given)
        return Heard(**json.loads(out))

    return client


async def install_node_libraries(source, folder):
    """Copy the scripts and install the libraries of the lock file, once; raises `ProgramError`."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = (source / "package-lock.json").read_bytes()
    for file in source.glob("*.*js*"):
        shutil.copy(file, folder)
    installed = folder / "installed-lock"
    if installed.exists() and installed.read_bytes() == wanted:
        return
    installed.unlink(missing_ok=True)
    quietly = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefer-offline")
    soon = ("--fetch-retries=1", "--fetch-retry-mintimeout=200", "--fetch-timeout=10000")
    await run(shutil.which("npm"), "ci", *quietly, *soon, cwd=folder)
    installed.write_bytes(wanted)
