import { hash } from 'node:crypto';
import type pg from 'pg';

/**
 * Proves to `postern.claims()` that claims come from a node, for this connection and for now: NMAC with SHA-256 over
 * backend, time and claims. Migration 0009 has the other side, and what it is good against.
 */

/** As database/ reads it. */
export interface ClaimsKey {
  readonly inner: Buffer;
  readonly outer: Buffer;
}

export interface ClaimsProof {
  /** By the database's clock. */
  readonly issuedMs: string;
  readonly proof: Buffer;
}

/** How long a proof is used again on its connection for the same claims; the database takes it for five minutes. */
const REUSED_MS = 60_000;

/** No message about claims begins so: a backend's number is less. */
const ACKNOWLEDGE = Buffer.from('postern acknowledge');

interface Introduction {
  readonly prover: ClaimsProver;
  readonly pooled: boolean;
}
const INTRODUCTIONS = new WeakMap<pg.ClientBase, Introduction>();

/**
 * Costs a round trip, once a connection: the server's own number of it (a pooler says another), and its clock. pooled: the
 * number holds for one transaction only.
 */
export async function introduce(client: pg.ClientBase, key: ClaimsKey, pooled: boolean): Promise<void> {
  const { rows } = await client.query<{ backend: number; clockMs: string }>(INTRODUCTION);
  const { backend, clockMs } = rows[0] as { backend: number; clockMs: string };
  const prover = new ClaimsProver(key, backend, Number(clockMs));
  INTRODUCTIONS.set(client, { prover, pooled });
}

const INTRODUCTION = `select pg_catalog.pg_backend_pid() as backend,
  pg_catalog.floor(extract(epoch from pg_catalog.clock_timestamp()) operator(pg_catalog.*) 1000)::pg_catalog.text as "clockMs"`;

/** Undefined for a connection that was not introduced: `postern.claims()` is null on it. */
export function introductionOf(client: pg.ClientBase): Introduction | undefined {
  return INTRODUCTIONS.get(client);
}

export class ClaimsProver {
  readonly #key: ClaimsKey;
  readonly #prefix = Buffer.alloc(12);
  /** Between the database's clock and this process' monotonic one, so that nobody has to set the node's. */
  readonly #offsetMs: number;
  #last: { readonly claims: string; readonly untilMs: number; readonly proof: ClaimsProof } | undefined;

  constructor(key: ClaimsKey, backend: number, clockMs: number) {
    this.#key = key;
    this.#prefix.writeInt32BE(backend);
    this.#offsetMs = clockMs - performance.now();
  }

  /** For another server process. */
  at(backend: number): ClaimsProver {
    return new ClaimsProver(this.#key, backend, performance.now() + this.#offsetMs);
  }

  prove(claims: string): ClaimsProof {
    if (this.#last?.claims === claims && performance.now() < this.#last.untilMs) return this.#last.proof;
    const proof = this.#make(claims);
    this.#last = { claims, untilMs: performance.now() + REUSED_MS, proof };
    return proof;
  }

  /** For `postern_guest.acknowledge`; see migration 0014. */
  proveAcknowledgement(nodeId: string, events: string): Buffer {
    const node = Buffer.from(nodeId.replaceAll('-', ''), 'hex');
    const message = Buffer.concat([ACKNOWLEDGE, this.#prefix.subarray(0, 4), node, Buffer.from(events)]);
    const inner = hash('sha256', Buffer.concat([this.#key.inner, message]), 'buffer');
    return hash('sha256', Buffer.concat([this.#key.outer, inner]), 'buffer');
  }

  #make(claims: string): ClaimsProof {
    const issuedMs = BigInt(Math.floor(performance.now() + this.#offsetMs));
    this.#prefix.writeBigInt64BE(issuedMs, 4);
    const inner = hash('sha256', Buffer.concat([this.#key.inner, this.#prefix, Buffer.from(claims)]), 'buffer');
    return { issuedMs: String(issuedMs), proof: hash('sha256', Buffer.concat([this.#key.outer, inner]), 'buffer') };
  }
}
