/** What is done to a cluster, by the names of THREATS 3.2. Each resolves when it is over and undone. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Pool } from 'pg';
import type { NodeProcess } from './node-process.ts';
import { pick } from './pick.ts';
import type { ChaosPostgres } from './postgres.ts';
import type { TcpProxy } from './tcp-proxy.ts';

export interface Cluster {
  readonly nodes: readonly NodeProcess[];
  /** One for each node, in their order, and the writers' one at the end. */
  readonly proxies: readonly TcpProxy[];
  readonly postgres: ChaosPostgres;
  /** Straight to Postgres. */
  readonly pool: Pool;
  readonly leaseMs: number;
}

type Fault = (cluster: Cluster, random: () => number) => Promise<void>;

export const FAULTS = {
  /** F1; which step it hits is left to chance, and to the failpoints that nodes are started with. */
  async killNode({ nodes }, random) {
    await pick(nodes, random).kill();
  },

  /** F2. */
  async killExecutor({ nodes }, random) {
    for (const pid of pick(nodes, random).executors()) end(pid);
  },

  /** F5: others take its events, then it wakes up and goes on. */
  async freezeNode({ nodes, leaseMs }, random) {
    const node = pick(nodes, random);
    node.signal('SIGSTOP');
    await delay(leaseMs * (1 + random()));
    node.signal('SIGCONT');
  },

  /** F8. */
  async restartPostgres({ postgres }) {
    await postgres.restartImmediately();
  },

  /** F9: Postgres ends all sessions and recovers. */
  async killBackend({ pool }) {
    const { rows } = await pool.query<{ pid: number }>(
      `select pid from pg_stat_activity where application_name = 'postern' order by random() limit 1`,
    );
    for (const { pid } of rows) end(pid);
    await answering(pool);
  },

  /** F10. */
  async endListeners({ pool }) {
    await endListeners(pool);
  },

  /** F13. */
  async cutConnections({ proxies }, random) {
    pick(proxies, random).cut();
  },

  /** F11, of all connections of a node. */
  async halfOpen({ proxies, leaseMs }, random) {
    await spell(pick(proxies, random), leaseMs * 2 * random(), (proxy) => proxy.halfOpen());
  },

  /** F13. */
  async partition({ proxies, leaseMs }, random) {
    await spell(pick(proxies, random), leaseMs * 2 * random(), (proxy) => proxy.partition());
  },

  /** F13. */
  async slowNetwork({ proxies, leaseMs }, random) {
    await spell(pick(proxies, random), leaseMs * random(), (proxy) => proxy.delay(20 + 300 * random()));
  },

  /** F14: done, and nobody hears of it. */
  async cutReplies({ proxies }, random) {
    await spell(pick(proxies, random), 200, (proxy) => proxy.cutReplies(1 + Math.floor(random() * 4)));
  },
} satisfies Record<string, Fault>;

export type FaultName = keyof typeof FAULTS;
export const FAULT_NAMES = Object.keys(FAULTS) as FaultName[];

/** What hurts more than nodes. A fault of the network may have met the writers' proxy. */
export const HURT_WRITERS: ReadonlySet<FaultName> = new Set<FaultName>([
  'restartPostgres',
  'killBackend',
  'cutConnections',
  'halfOpen',
  'partition',
  'slowNetwork',
  'cutReplies',
]);

export async function endListeners(pool: Pool): Promise<void> {
  await pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'postern doorbell'`,
  );
}

/** Resolves when Postgres has recovered. */
async function answering(pool: Pool): Promise<void> {
  for (;;) {
    try {
      await pool.query('select');
      return;
    } catch {
      await delay(50);
    }
  }
}

async function spell(proxy: TcpProxy, forMs: number, hurt: (proxy: TcpProxy) => void): Promise<void> {
  hurt(proxy);
  await delay(forMs);
  proxy.heal();
}

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has just gone by itself.
  }
}
