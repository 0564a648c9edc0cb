// A client of the gateway with @connectrpc/connect-node and @bufbuild/protobuf: reads its task as JSON from standard
// input, makes a streamed chat, an order and an order that is refused over the protocol and the version of HTTP that
// the task names, and writes what it heard as JSON to standard output.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createFileRegistry, fromBinary, fromJson, toJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import {
  Http2SessionManager,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";

const task = JSON.parse(readFileSync(0, "utf8"));
const descriptors = readFileSync(join(task.root, "generated", "descriptors.bin"));
const contract = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors));
const message = (name) => contract.getMessage(`agentic.gateway.v1.${name}`);
const service = (name) => contract.getService(`agentic.gateway.v1.${name}`);

const baseUrl = `http://${task.target}`;
const session = task.httpVersion === "2" ? new Http2SessionManager(baseUrl) : undefined;
const choices = { baseUrl, httpVersion: task.httpVersion, sessionManager: session, useBinaryFormat: task.binary };
const makers = { connect: createConnectTransport, grpc: createGrpcTransport, "grpc-web": createGrpcWebTransport };
const transport = makers[task.protocol](choices);
const options = { headers: { authorization: task.authorization }, timeoutMs: task.timeoutMs };

// On the wire the detail is a google.rpc.ErrorInfo, of which the contract has a form of its own.
function errorInfo(error) {
  const schema = contract.getMessage("agentic.wire.v1.ErrorInfo");
  const detail = error.details.find((one) => one.type === "google.rpc.ErrorInfo");
  return toJson(schema, fromBinary(schema, detail.value));
}

const models = createClient(service("ModelService"), transport);
const tools = createClient(service("ToolService"), transport);
const heard = { events: [], operation: {}, code: "", error_info: {} };
for await (const event of models.chat(fromJson(message("ChatRequest"), task.chat), options)) {
  heard.events.push(toJson(message("ChatEvent"), event));
}
const order = (content) => tools.executeTool(fromJson(message("ExecuteToolRequest"), content), options);
heard.operation = toJson(message("Operation"), await order(task.smallOrder));
try {
  await order(task.greatOrder);
} catch (failure) {
  const error = ConnectError.from(failure);
  heard.code = Code[error.code].replace(/(?<=[a-z])[A-Z]/g, "_$&").toLowerCase();
  heard.error_info = errorInfo(error);
}
session?.abort();
process.stdout.write(JSON.stringify(heard));
