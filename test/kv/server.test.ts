// The HTTP side of docs/examples/kv, over real sockets: bodies that are none, paths and methods that are none, closing.

import { once } from "node:events";
import { connect } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import type { Group } from "../../docs/examples/kv/gateway.js";
import { type HttpServer, serve } from "../../docs/examples/kv/server.js";
import { deferred } from "../deferred.js";
import { base64, freshGateway, type GroupOfOne, troubled } from "./harness.js";

let open: HttpServer[] = [];
afterEach(async () => {
  await Promise.all(open.map((server) => server.close()));
  open = [];
});

async function start(spoil?: (group: GroupOfOne) => Group): Promise<{ server: HttpServer; url: string }> {
  const { gateway } = await freshGateway({}, spoil);
  const server = await serve(gateway, "127.0.0.1", 0);
  open.push(server);
  return { server, url: `http://127.0.0.1:${server.port}` };
}

async function ask(url: string, init: RequestInit): Promise<[number, unknown]> {
  const response = await fetch(url, init);
  expect(response.headers.get("content-type")).toBe("application/json");
  return [response.status, await response.json()];
}

describe("serve()", () => {
  test("answers, whatever the content type says and whatever follows the path", async () => {
    const { url } = await start();
    const body = JSON.stringify({ key: base64("a"), value: base64("1") });
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    const [status, answer] = await ask(`${url}/v3/kv/put?pretty`, { method: "POST", headers, body });
    expect([status, answer]).toEqual([
      200,
      { header: { cluster_id: "99", member_id: "7", revision: "2", raft_term: "2" } },
    ]);
  });

  test.each(["/", "/v3", "/v3/kv", "/v3/kv/put/", "/v3/kv/PUT", "/v3/watch", "/v3beta/kv/put", "//v3/kv/put"])(
    "knows nothing at %s",
    async (path) => {
      const { url } = await start();
      const notFound = { code: 5, message: "Not Found", details: [] };
      expect(await ask(url + path, { method: "POST", body: "{}" })).toEqual([404, notFound]);
      expect(await ask(url + path, { method: "GET" })).toEqual([404, notFound]);
    },
  );

  test.each(["GET", "PUT", "DELETE", "PATCH"])("has no %s", async (method) => {
    const { url } = await start();
    const body = method === "GET" ? null : "{}";
    expect(await ask(`${url}/v3/kv/range`, { method, body })).toEqual([
      501,
      { code: 12, message: "Method Not Allowed", details: [] },
    ]);
  });

  test.each(["{", "nonsense", '{"key":', "[]", '"x"', "5", '{"key":"%%%"}', "\xff\xfe{}"])(
    "refuses the body %j",
    async (body) => {
      const { url } = await start();
      const [status, answer] = await ask(`${url}/v3/kv/put`, { method: "POST", body });
      expect(status).toBe(400);
      expect(answer).toMatchObject({ code: 3 });
      const { error, message } = answer as { error: string; message: string };
      expect(error).toBe(message);
      expect(error).not.toBe("");
    },
  );

  test("hears a body that is too large to its end, says so, and goes on", async () => {
    const { url } = await start();
    const size = 6_000_000;
    const [status, answer] = await ask(`${url}/v3/kv/put`, { method: "POST", body: "x".repeat(size) });
    expect(status).toBe(429);
    expect(answer).toMatchObject({ code: 8 });
    expect((answer as { error: string }).error).toMatch(
      new RegExp(`^grpc: received message larger than max \\(${size} vs\\. \\d+\\)$`),
    );
    const [after] = await ask(`${url}/v3/kv/put`, { method: "POST", body: JSON.stringify({ key: base64("a") }) });
    expect(after).toBe(200);
  });

  test("outlives clients that hang up amid their request and before their answer", async () => {
    const [asked, held] = [deferred(), deferred()];
    const { server, url } = await start((group) =>
      troubled(group, () => {
        asked.resolve();
        return held.promise;
      }),
    );
    const body = JSON.stringify({ key: base64("a") });
    const head = `POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`;
    for (const sent of [head + body.slice(0, 5), head + body]) {
      const socket = connect(server.port, "127.0.0.1");
      socket.on("error", () => {});
      await once(socket, "connect");
      await new Promise((resolve) => socket.write(sent, resolve));
      if (sent.endsWith(body)) await asked.promise;
      socket.destroy();
      await once(socket, "close");
    }
    held.resolve();
    expect((await ask(`${url}/v3/kv/range`, { method: "POST", body }))[0]).toBe(200);
  });

  test("close() lets what is under way end, and takes no more", async () => {
    const [asked, held] = [deferred(), deferred()];
    const { server, url } = await start((group) =>
      troubled(group, () => {
        asked.resolve();
        return held.promise;
      }),
    );
    const body = JSON.stringify({ key: base64("a") });
    const answer = ask(`${url}/v3/kv/range`, { method: "POST", body });
    await asked.promise;
    const closed = server.close();
    await expect(fetch(`${url}/v3/kv/put`, { method: "POST", body })).rejects.toThrow();
    held.resolve();
    expect((await answer)[0]).toBe(200);
    await closed;
    await server.close();
  });

  test("rejects when the address is taken", async () => {
    const { server } = await start();
    const { gateway } = await freshGateway();
    await expect(serve(gateway, "127.0.0.1", server.port)).rejects.toMatchObject({ code: "EADDRINUSE" });
  });
});
