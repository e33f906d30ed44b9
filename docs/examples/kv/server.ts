// The HTTP side: bodies in, bodies out, and what is wrong with a request before it is one. node:http and nothing else.
// main.ts starts it on top of a Gateway. Answers have the shapes of etcd's JSON gateway: JSON whatever happens, and a body
// that is too large is read to its end, so that the client hears why.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Code, StatusError } from "./errors.js";
import type { Gateway } from "./gateway.js";

export interface HttpServer {
  readonly host: string;
  readonly port: number;
  /** Lets the requests that are under way end, and takes no others. Closing twice is fine. */
  close(): Promise<void>;
}

/** Listens; port 0 takes a free one. @throws the system's error when the address cannot be had. */
export async function serve(gateway: Gateway, host: string, port: number): Promise<HttpServer> {
  let closed: Promise<void> | undefined;
  const server = createServer((request, response) => {
    // A connection outlives its answer, and close() waits for all of them.
    response.once("close", () => {
      if (closed !== undefined) server.closeIdleConnections();
    });
    void answer(gateway, request, response);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
  const address = server.address() as AddressInfo;
  return {
    host: address.address,
    port: address.port,
    close: () => {
      closed ??= close(server);
      return closed;
    },
  };
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    // It also ends the connections that wait for a request; one that is being answered is ended by its answer.
    server.close(() => resolve());
  });
}

/** Never rejects: whatever goes wrong is an answer, or nobody is there to hear it. */
async function answer(gateway: Gateway, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    const [path = ""] = (request.url ?? "").split("?", 1);
    const call = gateway.routeOf(path);
    const body = await bodyOf(request, gateway.maxBodyBytes);
    if (call === undefined) return write(response, 404, refusal(Code.NotFound, "Not Found"));
    if (request.method !== "POST") return write(response, 501, refusal(Code.Unimplemented, "Method Not Allowed"));
    if (typeof body === "number") {
      const text = `grpc: received message larger than max (${body} vs. ${gateway.maxBodyBytes})`;
      throw new StatusError(Code.ResourceExhausted, text);
    }
    write(response, 200, await call(body));
  } catch (error) {
    if (response.headersSent) response.destroy();
    else if (error instanceof StatusError) write(response, error.httpStatus, error.toJSON());
    else write(response, 500, new StatusError(Code.Internal, String(error)).toJSON());
  }
}

/** What the gateway's own router says has a Status alone, as in etcd 3.6. */
function refusal(code: number, message: string): object {
  return { code, message, details: [] };
}

function write(response: ServerResponse, status: number, body: object): void {
  const bytes = Buffer.from(JSON.stringify(body));
  response.writeHead(status, { "content-type": "application/json", "content-length": bytes.length });
  response.end(bytes);
}

/** The body, or how many bytes it had when those are more than `most`. */
async function bodyOf(request: IncomingMessage, most: number): Promise<string | number> {
  let chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size <= most) chunks.push(chunk);
    else chunks = [];
  }
  return size <= most ? Buffer.concat(chunks).toString("utf8") : size;
}
