// Links: what stands between each pair of members of a group of processes. A member reaches another through a proxy of its own, one
// for each direction, so that a link can be cut one way. Used by the fire test.

import { connect, createServer, type Server, type Socket } from "node:net";

export const HOST = "127.0.0.1";

interface Link {
  readonly server: Server;
  readonly port: number;
  readonly sockets: Set<Socket>;
  cut: boolean;
}

export class Links {
  readonly #links = new Map<string, Link>();

  /** The port at which `from` reaches `to`, who listens at `target`. */
  async port(from: bigint, to: bigint, target: number): Promise<number> {
    const key = `${from}>${to}`;
    const link = this.#links.get(key) ?? (await this.#open(key, target));
    return link.port;
  }

  async #open(key: string, target: number): Promise<Link> {
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: false }, (socket) => {
      if (link.cut) {
        socket.destroy();
        return;
      }
      const onward = connect(target, HOST);
      for (const [one, other] of [
        [socket, onward],
        [onward, socket],
      ] as const) {
        sockets.add(one);
        one.setNoDelay(true);
        one.on("error", () => {});
        one.on("close", () => {
          sockets.delete(one);
          other.destroy();
        });
        one.pipe(other);
      }
    });
    const port = await listening(server, 0);
    const link: Link = { server, port, sockets, cut: false };
    this.#links.set(key, link);
    return link;
  }

  /** Nothing of `from` gets to `to` any more, and what is open breaks. */
  cut(from: bigint, to: bigint): void {
    const link = this.#links.get(`${from}>${to}`);
    if (link === undefined) return;
    link.cut = true;
    for (const socket of link.sockets) socket.destroy();
  }

  mendAll(): void {
    for (const link of this.#links.values()) link.cut = false;
  }

  async close(): Promise<void> {
    for (const { server, sockets } of this.#links.values()) {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    }
    this.#links.clear();
  }
}

export function listening(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, HOST, () => {
      server.off("error", reject);
      resolve((server.address() as { port: number }).port);
    });
  });
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listening(server, 0);
  await new Promise((resolve) => server.close(resolve));
  return port;
}
