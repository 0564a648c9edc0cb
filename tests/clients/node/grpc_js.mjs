// A client of the gateway with @grpc/grpc-js and @grpc/proto-loader: reads its task as JSON from standard input, makes
// a streamed chat, an order and an order that is refused, and writes what it heard as JSON to standard output.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Metadata, credentials, loadPackageDefinition, status } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const task = JSON.parse(readFileSync(0, "utf8"));
const options = { longs: String, enums: String, bytes: String, oneofs: false };
const includeDirs = [join(task.root, "protos")];
const files = ["agentic/gateway/v1/model.proto", "agentic/gateway/v1/tool.proto"];
const contract = loadPackageDefinition(loadSync(files, { ...options, includeDirs }));
const { ModelService, ToolService } = contract.agentic.gateway.v1;
const metadata = new Metadata();
metadata.set("authorization", task.authorization);
const deadline = Date.now() + task.timeoutMs;

// The details of an error are a google.rpc.Status, of which the contract has a form of its own.
const wire = loadSync("agentic/wire/v1/status.proto", { ...options, bytes: Buffer, includeDirs });

function errorInfo(error) {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  const { details } = wire["agentic.wire.v1.Status"].deserialize(bytes);
  const detail = details.find((one) => one.typeUrl === "type.googleapis.com/google.rpc.ErrorInfo");
  return wire["agentic.wire.v1.ErrorInfo"].deserialize(detail.value);
}

function execute(client, request) {
  return new Promise((resolve, reject) =>
    client.executeTool(request, metadata, { deadline }, (error, reply) => (error ? reject(error) : resolve(reply))),
  );
}

const models = new ModelService(task.target, credentials.createInsecure());
const tools = new ToolService(task.target, credentials.createInsecure());
const heard = { events: [], operation: {}, code: "", error_info: {} };
for await (const event of models.chat(task.chat, metadata, { deadline })) {
  heard.events.push(event);
}
heard.operation = await execute(tools, task.smallOrder);
try {
  await execute(tools, task.greatOrder);
} catch (error) {
  heard.code = status[error.code].toLowerCase();
  heard.error_info = errorInfo(error);
}
models.close();
tools.close();
process.stdout.write(JSON.stringify(heard));
