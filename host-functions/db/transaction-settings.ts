import type { Identity, InvocationScope } from '../../runtime/index.ts';
import { BACKSTOP_GRACE_MS } from '../backstop.ts';
import type { ClaimsProof, ClaimsProver } from './claims-proof.ts';
import type { PipelineStep } from './pipeline.ts';

/** A scope that also says how many functions fired one another before this invocation; absent means 0. */
export type DatabaseScope = InvocationScope;

/**
 * The step before every guest statement, in its transaction: `set local` for all that the statement is judged by.
 * Sent again before each statement of a longer transaction, so that what an earlier one did to a setting (through a
 * function of the user's own) does not last.
 *
 * - idle_in_transaction_session_timeout: the server's own end for a transaction that nobody comes back to (DB-19).
 * - standard_conforming_strings: the gate's parser reads strings as with `on`; the server has to agree (DB-23).
 * - request.jwt.claims: as PostgREST sets it, always JSON, so that `current_setting(…)::json` in a policy never fails.
 * - postern.claims: the same, for `postern.claims()`, with what nobody makes who can't prove to be a node (migration 0009).
 * - the role last, since from there on the rights are the guest's.
 *
 * Each set_config costs some 8 microseconds of the server; what no policy hangs on is set at connection, below.
 */
const settings = (session: string, claims: string): string => `select
  pg_catalog.set_config('statement_timeout', $1, true),
  ${session}pg_catalog.set_config('request.jwt.claims', $2, true),
  pg_catalog.set_config('postern.depth', $3, true),
  ${claims}pg_catalog.set_config('role', $4, true)`;

const SESSION = `pg_catalog.set_config('idle_in_transaction_session_timeout', $1, true),
  pg_catalog.set_config('standard_conforming_strings', 'on', true),
  `;
/** Functions by name and no operators, which the server looks for among many: 35 of the 75 microseconds that it took. */
const CLAIMS = `pg_catalog.set_config('postern.claims', pg_catalog.textcat(pg_catalog.encode(pg_catalog.sha256(pg_catalog.byteacat(
    $5, pg_catalog.timestamptz_send(pg_catalog.transaction_timestamp()))), 'hex'), $6), true),
  `;
const UNPROVEN = settings(SESSION, '');
const PROVEN = settings(SESSION, CLAIMS);
/** For a transaction that is over with the round trip, in a session that was just cleaned: `CONNECTION_OPTIONS` hold. */
const UNPROVEN_READ = settings('', '');
const PROVEN_READ = settings('', CLAIMS);

/**
 * Startup options of a guest connection: what DISCARD ALL goes back to, whatever the database or the role is set to.
 * The text forms are those that `column-types.ts` reads; row_security `off` would turn filtered rows into errors;
 * standard_conforming_strings is what the gate reads strings by (DB-23).
 */
export const CONNECTION_OPTIONS =
  '-c row_security=on -c standard_conforming_strings=on -c DateStyle=ISO -c IntervalStyle=postgres -c bytea_output=hex -c extra_float_digits=1';

/** Beyond this the server's clock is not needed, and its 32-bit setting would overflow. */
const MAX_TIMEOUT_MS = 600_000;

/** The settings of one transaction. */
export class TransactionSettings {
  readonly #scope: DatabaseScope;
  readonly #role: string;
  readonly #claims: string;
  /** Of the transaction's begin, also for later steps: it has to be from about then. */
  readonly #proof: ClaimsProof | undefined;

  /** role: the database role, of the same name as Postern's. prover: of the connection; absent, nothing is proven. */
  constructor(scope: DatabaseScope, role: string, prover: ClaimsProver | undefined) {
    this.#scope = scope;
    this.#role = role;
    this.#claims = claimsText(scope.identity, role);
    this.#proof = prover?.prove(this.#claims);
  }

  step(): PipelineStep {
    return this.#step(UNPROVEN, PROVEN);
  }

  /** For the first and only statement of a loan. */
  ofRead(): PipelineStep {
    return this.#step(UNPROVEN_READ, PROVEN_READ);
  }

  #step(unproven: string, proven: string): PipelineStep {
    const remainingMs = this.#scope.deadlineMs - performance.now();
    const timeoutMs = String(Math.min(Math.max(Math.ceil(remainingMs), 0) + BACKSTOP_GRACE_MS, MAX_TIMEOUT_MS));
    const values = [timeoutMs, this.#claims, String(this.#scope.depth), this.#role];
    if (this.#proof === undefined) return { text: unproven, values };
    return { text: proven, values: [...values, this.#proof.proof, `${this.#proof.issuedMs} ${this.#claims}`] };
  }
}

/** Without claims PostgREST still says the role; so does this. */
function claimsText(identity: Identity, role: string): string {
  return JSON.stringify(identity.claims === null ? { role } : { role: identity.role, ...identity.claims });
}
