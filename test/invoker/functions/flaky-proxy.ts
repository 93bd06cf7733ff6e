/** A TCP proxy in front of Postgres that can freeze (swallow bytes, half-open), cut and heal. */

import { connect, createServer, type Server, type Socket } from 'node:net';

export class FlakyProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly url: string;
  #frozen = false;
  #refusing = false;

  private constructor(server: Server, url: string) {
    this.#server = server;
    this.url = url;
  }

  static async start(target: string): Promise<FlakyProxy> {
    const to = new URL(target);
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const url = Object.assign(new URL(target), { host: `127.0.0.1:${port}` });
    const proxy = new FlakyProxy(server, url.href);
    server.on('connection', (client) => proxy.#accept(client, to));
    return proxy;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  /** Nothing arrives any more, and nobody is told. */
  freeze(): void {
    this.#frozen = true;
  }

  /** Ends every connection and refuses new ones. */
  cut(): void {
    this.#refusing = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  heal(): void {
    this.#refusing = false;
    this.#frozen = false;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(client: Socket, to: URL): void {
    if (this.#refusing) {
      client.destroy();
      return;
    }
    const upstream = connect(Number(to.port), to.hostname);
    for (const [from, other] of [[client, upstream] as const, [upstream, client] as const]) {
      this.#sockets.add(from);
      from.on('data', (bytes) => {
        if (!this.#frozen) other.write(bytes);
      });
      from.on('error', () => {});
      from.on('close', () => {
        this.#sockets.delete(from);
        other.destroy();
      });
    }
  }
}
