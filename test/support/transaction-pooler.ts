/**
 * A pooler in transaction mode that is as unkind as the mode allows: no two transactions of a client in a row get the same server
 * connection, nothing is cleaned between clients (no DISCARD ALL), start-up options are refused, and what a server says while no
 * client has it is dropped. Cancel requests are passed on.
 */

import { randomInt } from 'node:crypto';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import pg from 'pg';

/** In all, over users and databases; more clients wait for their turn. */
const MAX_SERVERS = 60;
const SSL_REQUEST = 80_877_103;
const CANCEL_REQUEST = 80_877_102;
const PROTOCOL_3 = 196_608;

interface ServerConnection {
  readonly socket: Socket;
  readonly processID: number;
  readonly secretKey: number;
  client: ClientConnection | undefined;
}

export interface TransactionPoolerOptions {
  /**
   * What a client is told as the number of its server process: one that the pooler made up, as PgBouncer does, or the number of
   * the first one.
   */
  readonly backendKey?: 'made up' | 'of the first server';
}

export class TransactionPooler {
  readonly #target: URL;
  readonly #server: Server;
  readonly options: TransactionPoolerOptions;
  readonly #idle = new Map<string, ServerConnection[]>();
  readonly #waiting: { readonly key: string; readonly last: number; readonly give: () => void }[] = [];
  readonly #sockets = new Set<Socket>();
  readonly clients = new Map<number, ClientConnection>();
  #servers = 0;
  /** Of transactions that began on another server connection than the one before of the same client. */
  moves = 0;

  private constructor(url: string, options: TransactionPoolerOptions) {
    this.#target = new URL(url);
    this.options = options;
    this.#server = createServer((socket) => {
      this.#keep(socket);
      new ClientConnection(this, socket);
    });
  }

  static async start(url: string, options: TransactionPoolerOptions = {}): Promise<TransactionPooler> {
    const pooler = new TransactionPooler(url, options);
    await new Promise<void>((listening) => pooler.#server.listen(0, '127.0.0.1', listening));
    return pooler;
  }

  /** The same database, through the pooler. */
  get url(): string {
    const { port } = this.#server.address() as AddressInfo;
    return Object.assign(new URL(this.#target), { port: String(port) }).href;
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    const gone = [...this.#sockets].map((socket) => new Promise((resolve) => socket.once('close', resolve)));
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all([closed, ...gone]);
  }

  /** One that is idle and is not `last`; a new one where there is none. Rejects with what Postgres says of the login. */
  async acquire(key: string, config: pg.ClientConfig, last: number): Promise<ServerConnection> {
    for (;;) {
      const idle = this.#idle.get(key) ?? [];
      const index = idle.findIndex(({ processID }) => processID !== last);
      if (index !== -1) return idle.splice(index, 1)[0] as ServerConnection;
      if (this.#servers < MAX_SERVERS) return this.#open(key, config);
      await new Promise<void>((give) => this.#waiting.push({ key, last, give }));
    }
  }

  /** To the end of the line, so that others come first. */
  giveBack(key: string, server: ServerConnection): void {
    server.client = undefined;
    this.#idle.set(key, [...(this.#idle.get(key) ?? []), server]);
    for (const { give } of this.#waiting.splice(0)) give();
  }

  cancel(processID: number, secret: number): void {
    const client = this.clients.get(processID);
    if (client === undefined || client.secret !== secret || client.server === undefined) return;
    const { server } = client;
    const request = Buffer.alloc(16);
    for (const [place, value] of [16, CANCEL_REQUEST, server.processID, server.secretKey].entries()) {
      request.writeInt32BE(value, place * 4);
    }
    const socket = connect({ host: this.#target.hostname, port: Number(this.#target.port) }, () => socket.end(request));
    this.#keep(socket);
  }

  async #open(key: string, config: pg.ClientConfig): Promise<ServerConnection> {
    this.#servers += 1;
    const client = new pg.Client({ ...config, host: this.#target.hostname, port: Number(this.#target.port) });
    client.on('error', () => undefined);
    try {
      await client.connect();
    } catch (error) {
      this.#servers -= 1;
      throw error;
    }
    const inner = client as unknown as { connection: { stream: Socket }; processID: number; secretKey: number };
    const { stream: socket } = inner.connection;
    // From here on the bytes are ours.
    for (const event of ['data', 'error', 'close', 'end', 'drain']) socket.removeAllListeners(event);
    this.#keep(socket);
    const server: ServerConnection = { socket, ...pick(inner), client: undefined };
    const frames = new Frames();
    socket.on('data', (bytes: Buffer) => frames.take(bytes, (type, frame) => server.client?.fromServer(type, frame)));
    socket.on('close', () => {
      this.#servers -= 1;
      this.#idle.set(
        key,
        (this.#idle.get(key) ?? []).filter((one) => one !== server),
      );
      server.client?.end();
    });
    return server;
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => undefined);
    socket.on('close', () => this.#sockets.delete(socket));
  }
}

function pick({ processID, secretKey }: { processID: number; secretKey: number }) {
  return { processID, secretKey };
}

/** Messages after the start-up: a type, the length of the rest with itself, the rest. */
class Frames {
  #bytes: Buffer = Buffer.alloc(0);

  take(bytes: Buffer, each: (type: string, frame: Buffer) => void): void {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    while (this.#bytes.length >= 5 && this.#bytes.length >= 1 + this.#bytes.readInt32BE(1)) {
      const size = 1 + this.#bytes.readInt32BE(1);
      const frame = this.#bytes.subarray(0, size);
      this.#bytes = this.#bytes.subarray(size);
      each(String.fromCharCode(frame[0] as number), frame);
    }
  }
}

class ClientConnection {
  readonly #pooler: TransactionPooler;
  readonly #socket: Socket;
  readonly #frames = new Frames();
  readonly secret = randomInt(2 ** 31);
  #id = randomInt(2 ** 30, 2 ** 31);
  #startup: Buffer | undefined = Buffer.alloc(0);
  #config: pg.ClientConfig = {};
  server: ServerConnection | undefined;
  #last = 0;
  /** Queries and Syncs that were sent and not answered by ReadyForQuery. */
  #outstanding = 0;
  /** Messages are handled one after the other: some wait for a server. */
  #turn: Promise<void> = Promise.resolve();

  constructor(pooler: TransactionPooler, socket: Socket) {
    this.#pooler = pooler;
    this.#socket = socket;
    socket.on('data', (bytes: Buffer) => this.#take(bytes));
    socket.on('close', () => this.end());
  }

  get #key(): string {
    return `${this.#config.user} ${this.#config.database}`;
  }

  #take(bytes: Buffer): void {
    if (this.#startup !== undefined) this.#start(Buffer.concat([this.#startup, bytes]));
    else this.#frames.take(bytes, (type, frame) => this.#inTurn(() => this.#fromClient(type, frame)));
  }

  #inTurn(work: () => Promise<void>): void {
    this.#turn = this.#turn.then(work).catch((error: Error) => this.#refuse(error));
  }

  #start(bytes: Buffer): void {
    this.#startup = bytes;
    if (bytes.length < 8 || bytes.length < bytes.readInt32BE(0)) return;
    this.#startup = Buffer.alloc(0);
    switch (bytes.readInt32BE(4)) {
      case SSL_REQUEST:
        this.#socket.write('N');
        break;
      case CANCEL_REQUEST:
        this.#pooler.cancel(bytes.readInt32BE(8), bytes.readInt32BE(12));
        this.#socket.end();
        break;
      case PROTOCOL_3:
        this.#startup = undefined;
        this.#askForPassword(parametersOf(bytes));
        break;
      default:
        this.#socket.destroy();
    }
  }

  /** In clear text, which the pooler needs to log in with. */
  #askForPassword({ user, database, options }: Record<string, string>): void {
    this.#config = { user, database };
    if (options === undefined) this.#socket.write(message('R', int32(3)));
    else this.#refuse(Object.assign(new Error('unsupported startup parameter: options'), { code: '08P01' }));
  }

  async #fromClient(type: string, frame: Buffer): Promise<void> {
    if (type === 'p' && this.#config.password === undefined) return this.#welcome(frame.subarray(5, -1).toString());
    if (type === 'X') return this.end();
    if (this.server === undefined) {
      const server = await this.#pooler.acquire(this.#key, this.#config, this.#last);
      if (this.#socket.destroyed) return this.#pooler.giveBack(this.#key, server);
      if (server.processID !== this.#last) this.#pooler.moves += 1;
      this.#last = server.processID;
      this.server = server;
      server.client = this;
    }
    if (type === 'Q' || type === 'S') this.#outstanding += 1;
    this.server.socket.write(frame);
  }

  async #welcome(password: string): Promise<void> {
    this.#config = { ...this.#config, password };
    const server = await this.#pooler.acquire(this.#key, this.#config, this.#last);
    if (this.#pooler.options.backendKey === 'of the first server') this.#id = server.processID;
    this.#pooler.giveBack(this.#key, server);
    this.#pooler.clients.set(this.#id, this);
    const settings = Object.entries({
      client_encoding: 'UTF8',
      standard_conforming_strings: 'on',
      DateStyle: 'ISO, MDY',
    });
    this.#socket.write(
      Buffer.concat([
        message('R', int32(0)),
        ...settings.map(([name, value]) => message('S', Buffer.from(`${name}\0${value}\0`))),
        message('K', Buffer.concat([int32(this.#id), int32(this.secret)])),
        message('Z', Buffer.from('I')),
      ]),
    );
  }

  fromServer(type: string, frame: Buffer): void {
    this.#socket.write(frame);
    if (type !== 'Z') return;
    this.#outstanding -= 1;
    if (frame[5] !== 0x49 || this.#outstanding > 0 || this.server === undefined) return;
    const { server } = this;
    this.server = undefined;
    this.#pooler.giveBack(this.#key, server);
  }

  #refuse(error: Error & { code?: string }): void {
    const fields = `SFATAL\0VFATAL\0C${error.code ?? '08006'}\0M${error.message}\0\0`;
    this.#socket.end(message('E', Buffer.from(fields)));
  }

  /** What a client left half done ends with its server connection. */
  end(): void {
    this.#pooler.clients.delete(this.#id);
    this.#socket.destroySoon();
    const { server } = this;
    this.server = undefined;
    if (server === undefined) return;
    server.client = undefined;
    server.socket.destroy();
  }
}

function parametersOf(startup: Buffer): Record<string, string> {
  const words = startup.subarray(8).toString().split('\0');
  const parameters: Record<string, string> = {};
  for (let n = 0; words[n]; n += 2) parameters[words[n] as string] = words[n + 1] ?? '';
  return parameters;
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function message(type: string, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body]);
}
