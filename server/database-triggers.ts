/** `triggers/database` as a node uses it: installer, dispatcher, and what the control API and the metrics read. */

import type { Pool } from 'pg';
import type { Logger } from 'pino';
import type { FunctionCatalog, Invoker } from '../invoker/index.ts';
import {
  countEvents,
  DatabaseTriggerInstaller,
  Dispatcher,
  DriftWatch,
  discardEvent,
  findDrift,
  listEvents,
  listTriggers,
  redriveEvent,
  redriveEvents,
  setPaused,
  showEvent,
} from '../triggers/index.ts';
import type { EventCounts } from './metrics.ts';
import type { DatabaseTriggers } from './node.ts';

/** Counting reads the whole outbox; scrapers come every few seconds, and several at once. */
const COUNTS_TTL_MS = 5_000;
/** Below `serve`'s patience with row events; see `node.ts`. */
const STOP_BUDGET_MS = 10_000;

export interface DatabaseTriggersContext {
  readonly pool: Pool;
  readonly databaseUrl: string;
  readonly nodeId: string;
  readonly log: Logger;
  readonly leaseMs?: number;
}

export function createDatabaseTriggers({
  pool,
  databaseUrl,
  nodeId,
  log,
  leaseMs,
}: DatabaseTriggersContext): DatabaseTriggers {
  const note = (message: string, err?: unknown): void => log.warn(err === undefined ? {} : { err }, message);
  let dispatcher: Dispatcher | undefined;
  let counted: { at: number; counts: Promise<EventCounts> } | undefined;
  const count = async (): Promise<EventCounts> => {
    const { pending, leased, dead } = await countEvents(pool);
    return {
      pending: pending.count + leased.count,
      dead: dead.count,
      oldestSeconds: Math.max(pending.oldestSeconds, leased.oldestSeconds),
    };
  };
  const installer = new DatabaseTriggerInstaller({ log: (message) => note(message) });
  const watch = new DriftWatch({ pool, installer, log: note });
  return {
    installer,
    events: {
      list: (filter) => listEvents(pool, filter),
      show: (id) => showEvent(pool, id),
      redrive: (id) => redriveEvent(pool, id),
      redriveAll: (filter) => redriveEvents(pool, filter),
      discard: (id) => discardEvent(pool, id),
      triggers: (name) => listTriggers(pool, name),
      drift: (name) => findDrift(pool, name),
      setPaused: (name, paused, triggerId) => setPaused(pool, name, paused, triggerId),
    },
    counts() {
      if (counted === undefined || performance.now() - counted.at > COUNTS_TTL_MS) {
        counted = { at: performance.now(), counts: count() };
      }
      return counted.counts;
    },
    get listens() {
      return dispatcher?.listens ?? false;
    },
    async start(invoker: Invoker, catalog: Pick<FunctionCatalog, 'active'>) {
      await watch.start();
      dispatcher = new Dispatcher({
        pool,
        connection: { connectionString: databaseUrl },
        invoker,
        nodeId,
        policy: (name) => policyOf(catalog, name),
        log: note,
        ...(leaseMs === undefined ? {} : { leaseMs }),
      });
      await dispatcher.start();
    },
    get drifted() {
      return watch.drift.length;
    },
    async stop() {
      await watch.stop();
      await dispatcher?.stop(STOP_BUDGET_MS);
    },
  };
}

async function policyOf(catalog: Pick<FunctionCatalog, 'active'>, name: string) {
  const { version, config } = await catalog.active(name);
  return { version, retry: config.retry, concurrency: config.concurrency };
}
