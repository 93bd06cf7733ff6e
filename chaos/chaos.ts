/**
 * A cluster of real processes that is hurt while it works, and the check that nothing was lost: some `postern serve` on one
 * Postgres, each behind a proxy of its own; writers that know the fate of every row; functions that keep a ledger elsewhere;
 * faults by chance or by plan. What it promises of deliveries is in checker.ts.
 */

import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg, { type Pool } from 'pg';
import { FAILPOINTS, seededRandom } from '../database/index.ts';
import { check, type Violation } from './checker.ts';
import { type Cluster, FAULT_NAMES, FAULTS, type FaultName, HURT_WRITERS } from './faults.ts';
import type { Answer, Cause, History, InjectedFault, Run } from './history.ts';
import { Ledger, readLedger } from './ledger.ts';
import { NodeProcess } from './node-process.ts';
import { pick } from './pick.ts';
import { ChaosPostgres } from './postgres.ts';
import { countUndelivered, readResidue } from './residue.ts';
import { RunLedger } from './run-ledger.ts';
import { TcpProxy } from './tcp-proxy.ts';
import type { Workload, WorkloadContext } from './workload.ts';

const ADMIN_KEY = 'an-admin-key-for-chaos';
const SECRETS = {
  POSTERN_ADMIN_KEY: ADMIN_KEY,
  POSTERN_JWT_SECRET: 'a-chaos-secret-that-has-more-than-32-bytes',
  POSTERN_MASTER_KEY: 'a-master-key-for-chaos-of-32-bytes-or-more',
};
const MAX_CALM_MS = 1_500;
/** After it the check says what has not settled. */
const SETTLE_LEASES = 40;
const SETTLE_POLL_MS = 50;
/** A caller that hears nothing for so long tries another node. */
const CALL_MS = 2_500;
/** Where our own timers come so late the machine is too busy for promises about time. */
const STALL_MS = 500;
const STALL_TICK_MS = 100;
/** Sessions and executors of processes that were just stopped. */
const DEPARTURE_MS = 5_000;

export interface ChaosOptions {
  /** For the data, the ledgers and the nodes' logs; made where it is not. */
  readonly folder: string;
  readonly seed: number;
  readonly seconds: number;
  readonly nodes: number;
  readonly leaseMs: number;
  readonly workloads: readonly Workload[];
  /** These faults in turn, each at least once; else any, by the seed, for as long as there is time. */
  readonly plan?: readonly FaultName[];
  /** Variables of the nodes, beside those that make them a cluster. */
  readonly env?: Readonly<Record<string, string>>;
  readonly log: (message: string) => void;
}

export interface FunctionReport extends Readonly<Record<Cause['fate'], number>> {
  readonly handled: number;
  readonly dead: number;
  /** Starts beyond the first of each cause. */
  readonly again: number;
}

export interface ChaosReport {
  readonly violations: readonly Violation[];
  readonly functions: Readonly<Record<string, FunctionReport>>;
  /** What senders and callers were told, by function and status. */
  readonly answers: Readonly<Record<string, number>>;
  readonly faults: Readonly<Record<string, number>>;
  /** Failpoints that were passed, with what was done there; `after_result passed` is one of its keys. */
  readonly failpoints: Readonly<Record<string, number>>;
  readonly nodeStarts: number;
  readonly settleMs: number;
}

export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  await using run = new ChaosRun(options);
  return await run.toReport();
}

class ChaosRun {
  readonly #options: ChaosOptions;
  readonly #random: () => number;
  readonly #faults: InjectedFault[] = [];
  readonly #failpoints: Record<string, number> = {};
  /** In the order of their making; ended in the opposite one. */
  readonly #parts: (() => Promise<unknown>)[] = [];
  #nodeStarts = 0;
  #calm = true;

  constructor(options: ChaosOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const stop of this.#parts.toReversed()) await stop();
  }

  async toReport(): Promise<ChaosReport> {
    const { folder, workloads, seconds, log } = this.#options;
    this.#parts.push(this.#watchMachine());
    await mkdir(folder, { recursive: true });
    // As root the server runs as `postgres`, which has to get in.
    await chmod(folder, 0o755);
    const postgres = await ChaosPostgres.start(join(folder, 'postgres-data'));
    this.#parts.push(() => postgres.stop());
    const pool = new pg.Pool({ connectionString: postgres.url, application_name: 'chaos' });
    pool.on('error', () => undefined);
    this.#parts.push(() => pool.end());
    const runs = await RunLedger.start(join(folder, 'runs.jsonl'));
    this.#parts.push(() => runs.stop());
    const causes = await Ledger.open<Cause>(join(folder, 'causes.jsonl'));
    const answers = await Ledger.open<Answer>(join(folder, 'answers.jsonl'));
    const cluster = await this.#startCluster(postgres, pool);
    await Promise.all(cluster.nodes.map((node) => node.url));
    const contexts = workloads.map((workload, index) => {
      // Its own numbers: how fast writers are must not change which faults come.
      const random = seededRandom(this.#options.seed + 1 + index);
      const context: WorkloadContext = {
        pool,
        writerUrl: through(postgres.url, cluster.proxies.at(-1)!),
        deploy: (body) => deploy(cluster, body),
        send: (path, init) => send(cluster, random, path, init),
        adminKey: ADMIN_KEY,
        noteSource: runs.source,
        noteConfig: runs.config,
        record: (...entries) => causes.append(...entries),
        recordAnswer: (answer) => answers.append(answer),
        random,
      };
      return { workload, context };
    });
    await Promise.all(contexts.map(({ workload, context }) => workload.install(context)));

    const stopWriting = new AbortController();
    const writing = contexts.map(({ workload, context }) => workload.write(context, stopWriting.signal));
    this.#calm = false;
    log(`${cluster.nodes.length} nodes work; faults begin`);
    await this.#hurt(cluster, performance.now() + seconds * 1_000);
    stopWriting.abort();
    await Promise.all(writing);
    log('faults are over');
    const settleMs = await this.#settle(cluster);
    log(`settled in ${Math.round(settleMs)} ms`);
    await Promise.all(cluster.nodes.map((node) => node.url));
    for (const { workload, context } of contexts) await workload.probe?.(context);
    await this.#settled(cluster);
    await Promise.all([causes.close(), answers.close()]);
    await Promise.all(cluster.nodes.map((node) => node.stop()));
    await departed(cluster);

    const all = await readLedger<Cause>(join(folder, 'causes.jsonl'));
    return this.#report(settleMs, {
      functions: Object.assign({}, ...workloads.map(({ functions }) => functions)),
      causes: [...new Map(all.map((cause) => [cause.id, cause])).values()],
      runs: await readLedger<Run>(join(folder, 'runs.jsonl')),
      answers: await readLedger<Answer>(join(folder, 'answers.jsonl')),
      effects: (await Promise.all(workloads.map((workload) => workload.effects?.(pool) ?? []))).flat(),
      deadLetters: (await Promise.all(workloads.map((workload) => workload.deadLetters?.(pool) ?? []))).flat(),
      faults: this.#faults,
      residue: await readResidue(
        pool,
        cluster.nodes.flatMap((node) => node.orphans()),
      ),
    });
  }

  async #startCluster(postgres: ChaosPostgres, pool: Pool): Promise<Cluster> {
    const { nodes: count, leaseMs, folder } = this.#options;
    const { hostname: host, port } = new URL(postgres.url);
    const proxies = await Promise.all(
      Array.from({ length: count + 1 }, () => TcpProxy.start({ host, port: Number(port) })),
    );
    this.#parts.push(() => Promise.all(proxies.map((proxy) => proxy.stop())));
    const nodes = proxies.slice(0, count).map(
      (proxy, index) =>
        new NodeProcess({
          name: `node-${index}`,
          folder,
          env: {
            ...this.#options.env,
            ...SECRETS,
            DATABASE_URL: through(postgres.url, proxy),
            POSTERN_EVENT_LEASE_MS: String(leaseMs),
            POSTERN_VAR_NODE_NAME: `node-${index}`,
          },
          failpoints: () => this.#failpointsOfAStart(),
          onFailpoint: (name, what) => this.#failpointPassed(name, what),
          onStart: () => {
            this.#nodeStarts += 1;
          },
        }),
    );
    this.#parts.push(() => Promise.all(nodes.map((node) => node.stop())));
    return { nodes, proxies, postgres, pool, leaseMs };
  }

  /** Two of them each time, rare enough for work between. A node of a calm time has none: those only say what they pass. */
  #failpointsOfAStart(): string {
    if (this.#calm) return '';
    return [this.#random(), this.#random()]
      .map((at) => {
        const name = FAILPOINTS[Math.floor(at * FAILPOINTS.length)]!;
        const seed = Math.floor(this.#random() * 1e6);
        const doing = this.#random() < 0.5 ? 'kill:p=0.02' : `delay:ms=${Math.round(this.#random() * 400)}:p=0.05`;
        // What the function did can not be undone by a throw; where the database is asked, it stands for a lost answer.
        const throws = !/dispatch|result/.test(name) && this.#random() < 0.3;
        return `${name}:${throws ? 'throw:p=0.05' : doing}:seed=${seed}`;
      })
      .join(';');
  }

  #failpointPassed(name: string, what: string): void {
    const key = `${name} ${what}`;
    this.#failpoints[key] = (this.#failpoints[key] ?? 0) + 1;
    if (what !== 'passed') this.#faults.push({ name: key, at: performance.now() });
  }

  /** A machine that stands still excuses what took long meanwhile. Returns what ends it. */
  #watchMachine(): () => Promise<void> {
    let last = performance.now();
    const timer = setInterval(() => {
      const now = performance.now();
      if (now - last > STALL_MS)
        this.#faults.push({ name: 'machineStalled', at: last, until: now, hurtsWriters: true });
      last = now;
    }, STALL_TICK_MS);
    return async () => clearInterval(timer);
  }

  async #hurt(cluster: Cluster, until: number): Promise<void> {
    const { log, plan } = this.#options;
    for (let turn = 0; turn < (plan?.length ?? 0) || performance.now() < until; turn++) {
      await delay(this.#random() * MAX_CALM_MS);
      const name = plan === undefined ? pick(FAULT_NAMES, this.#random) : plan[turn % plan.length]!;
      const at = performance.now();
      log(`fault: ${name}`);
      // Faults meet: one that needs Postgres may find it restarting.
      await FAULTS[name](cluster, this.#random).catch((error: unknown) => log(`${name} could not be done: ${error}`));
      this.#faults.push({ name, at, until: performance.now(), hurtsWriters: HURT_WRITERS.has(name) });
    }
  }

  /** Networks heal and nodes start anew, without failpoints; resolves when nothing is under way. Returns how long it took. */
  async #settle(cluster: Cluster): Promise<number> {
    this.#calm = true;
    for (const proxy of cluster.proxies) proxy.heal();
    const from = performance.now();
    await Promise.all(cluster.nodes.map((node) => node.kill()));
    await this.#settled(cluster);
    return performance.now() - from;
  }

  async #settled({ pool, leaseMs }: Cluster): Promise<void> {
    const giveUpAt = performance.now() + SETTLE_LEASES * leaseMs + 10_000;
    while (performance.now() < giveUpAt && (await this.#pending(pool)) > 0) await delay(SETTLE_POLL_MS);
  }

  async #pending(pool: Pool): Promise<number> {
    const beside = await Promise.all(this.#options.workloads.map((workload) => workload.pending?.(pool) ?? 0));
    // Last: what was fired meanwhile is an event now.
    return beside.reduce((sum, count) => sum + count, await countUndelivered(pool));
  }

  #report(settleMs: number, history: History): ChaosReport {
    return {
      violations: check(history),
      functions: Object.fromEntries(
        Object.keys(history.functions).map((name) => [name, functionReport(history, name)] as const),
      ),
      answers: tally(history.answers.map(({ functionName, status }) => `${functionName} ${status}`)),
      faults: tally(this.#faults.map(({ name }) => name)),
      failpoints: this.#failpoints,
      nodeStarts: this.#nodeStarts,
      settleMs: Math.round(settleMs),
    };
  }
}

function functionReport({ causes, runs, deadLetters }: History, functionName: string): FunctionReport {
  const ours = <T extends { readonly functionName: string }>(list: readonly T[]): T[] =>
    list.filter((one) => one.functionName === functionName);
  const starts = ours(runs).filter(({ phase }) => phase === 'start');
  const ended = ours(runs).filter(({ phase }) => phase === 'end');
  return {
    acked: 0,
    failed: 0,
    unknown: 0,
    rolled_back: 0,
    ...tally(ours(causes).map(({ fate }) => fate)),
    handled: new Set(ended.map(({ id }) => id)).size,
    dead: ours(deadLetters).length,
    again: starts.length - new Set(starts.map(({ id }) => id)).size,
  };
}

function tally(names: readonly string[]): Record<string, number> {
  return Object.fromEntries([...Map.groupBy(names, (name) => name)].map(([name, all]) => [name, all.length]));
}

function through(url: string, proxy: TcpProxy): string {
  return Object.assign(new URL(url), { port: String(proxy.port) }).href;
}

async function deploy({ nodes }: Cluster, body: Readonly<Record<string, unknown>>): Promise<void> {
  const response = await fetch(`${await nodes[0]!.url}/functions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${ADMIN_KEY}` },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`function ${body.name} was not deployed: ${await response.text()}`);
}

/** As a load balancer does, which knows what is down and not what hangs. */
async function send({ nodes }: Cluster, random: () => number, path: string, init: RequestInit): Promise<Response> {
  const serving = (): string[] => nodes.flatMap(({ address }) => address ?? []);
  while (serving().length === 0) await delay(SETTLE_POLL_MS);
  return fetch(`${pick(serving(), random)}${path}`, { ...init, signal: AbortSignal.timeout(CALL_MS) });
}

/** Gives what nodes have left behind the time to notice; what stays is a finding. */
async function departed({ nodes, pool }: Cluster): Promise<void> {
  const giveUpAt = performance.now() + DEPARTURE_MS;
  while (performance.now() < giveUpAt) {
    const left = await readResidue(
      pool,
      nodes.flatMap((node) => node.orphans()),
    );
    if (left.sessions === 0 && left.orphans.length === 0) return;
    await delay(SETTLE_POLL_MS);
  }
}
