/** Stands between clients and Postgres, and does to connections what networks do. */

import { type AddressInfo, connect as connectTo, createServer, type Server, type Socket } from 'node:net';

interface Link {
  readonly client: Socket;
  readonly upstream: Socket;
  /** Nothing passes any more, and neither end hears of it. */
  halfOpen: boolean;
}

export class TcpProxy {
  readonly #target: { readonly host: string; readonly port: number };
  readonly #server: Server;
  readonly #links = new Set<Link>();
  /** Bytes that wait: for the end of a partition, or for their delay. */
  #partition: PromiseWithResolvers<void> | undefined;
  #delayMs = 0;
  #cutting: { left: number; readonly containing: string } | undefined;

  private constructor(target: { readonly host: string; readonly port: number }) {
    this.#target = target;
    this.#server = createServer((client) => this.#accept(client));
  }

  static async start(target: { readonly host: string; readonly port: number }): Promise<TcpProxy> {
    const proxy = new TcpProxy(target);
    await new Promise<void>((listening) => proxy.#server.listen(0, '127.0.0.1', listening));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get connections(): number {
    return this.#links.size;
  }

  /** Resets every connection. */
  cut(): void {
    for (const link of [...this.#links]) this.#drop(link);
  }

  /**
   * Makes every connection half-open: what is sent is swallowed and nothing is closed, as when a path dies without a word.
   * New connections work. The server's end is closed by `heal`, as a server finds out much later.
   */
  halfOpen(): void {
    for (const link of this.#links) link.halfOpen = true;
  }

  /** Holds all bytes, of new connections too, until `heal`. */
  partition(): void {
    this.#partition ??= Promise.withResolvers();
  }

  /** Holds each piece of bytes for so long, in both directions. */
  delay(delayMs: number): void {
    this.#delayMs = delayMs;
  }

  /**
   * The next `count` replies (of those that contain a text) are not passed on, and their connections are reset: the statement
   * was executed, or committed.
   */
  cutReplies(count = 1, containing = ''): void {
    this.#cutting = { left: count, containing };
  }

  /** The network is well again; half-open connections are gone. */
  heal(): void {
    this.#delayMs = 0;
    this.#cutting = undefined;
    for (const link of [...this.#links]) if (link.halfOpen) this.#drop(link);
    this.#partition?.resolve();
    this.#partition = undefined;
  }

  async stop(): Promise<void> {
    this.heal();
    this.cut();
    await new Promise((closed) => this.#server.close(closed));
  }

  #accept(client: Socket): void {
    const upstream = connectTo({ ...this.#target, noDelay: true });
    client.setNoDelay(true);
    const link: Link = { client, upstream, halfOpen: false };
    this.#links.add(link);
    void this.#pump(link, client, upstream);
    void this.#pump(link, upstream, client);
    for (const socket of [client, upstream]) socket.on('error', () => undefined).on('close', () => this.#ended(link));
  }

  async #pump(link: Link, from: Socket, to: Socket): Promise<void> {
    try {
      for await (const bytes of from) {
        if (this.#delayMs > 0) await new Promise((passed) => setTimeout(passed, this.#delayMs));
        await this.#partition?.promise;
        if (link.halfOpen) continue;
        if (from === link.upstream && this.#cuts(bytes)) return this.#drop(link);
        if (!to.write(bytes)) await new Promise<void>((drained) => to.once('drain', drained).once('close', drained));
      }
    } catch {
      // An end that was reset: `close` follows.
    }
  }

  #cuts(reply: Buffer): boolean {
    if (this.#cutting === undefined || this.#cutting.left === 0 || !reply.includes(this.#cutting.containing))
      return false;
    this.#cutting.left -= 1;
    return true;
  }

  /** One end has closed; the other gets what was said before. Across a half-open connection nobody hears of it. */
  #ended(link: Link): void {
    if (link.halfOpen) return;
    this.#links.delete(link);
    link.client.destroySoon();
    link.upstream.destroySoon();
  }

  #drop(link: Link): void {
    this.#links.delete(link);
    link.client.resetAndDestroy();
    link.upstream.resetAndDestroy();
  }
}
