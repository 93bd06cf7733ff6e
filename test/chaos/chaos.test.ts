/** The short form of `npm run chaos`: two nodes, a plan instead of chance, and every failpoint passed. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ChaosReport, runChaos } from '../../chaos/chaos.ts';
import { keyedCalls } from '../../chaos/keyed-calls.ts';
import { rowChanges } from '../../chaos/row-changes.ts';
import { Schedules } from '../../chaos/schedules.ts';
import { webhooks } from '../../chaos/webhooks.ts';
import { FAILPOINTS } from '../../database/index.ts';
import { sharedPartsEnv } from '../support/shared-parts-env.ts';

const PLAN = ['killNode', 'killExecutor', 'restartPostgres', 'cutReplies', 'cutConnections', 'killBackend'] as const;

let folder: string;
let report: ChaosReport;
const said: string[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'postern-chaos-'));
  report = await runChaos({
    folder,
    seed: 7,
    seconds: 6,
    nodes: 2,
    leaseMs: 2_000,
    workloads: [rowChanges, new Schedules(), webhooks, keyedCalls],
    plan: PLAN,
    env: sharedPartsEnv(),
    log: (message) => said.push(message),
  });
}, 120_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('a cluster that is hurt while it works', () => {
  test('F1 F2 F8 F9 F14 loses nothing, makes nothing up, repeats no attempt, keeps orders and keys, leaves nothing behind', () => {
    expect(report.violations, said.join('\n')).toEqual([]);
  });

  test('was hurt in each way that was planned, and worked meanwhile', () => {
    expect(Object.keys(report.faults)).toEqual(expect.arrayContaining([...PLAN]));
    expect(said.filter((line) => line.includes('could not be done'))).toEqual([]);
    for (const [name, { handled, dead }] of Object.entries(report.functions)) {
      if (name !== 'ticks') expect(handled + dead, name).toBeGreaterThan(0);
    }
    expect(report.functions.plain!.rolled_back).toBeGreaterThan(0);
    expect(report.functions.poisoned!.dead).toBeGreaterThan(0);
  });

  test('passed every failpoint', () => {
    expect(Object.keys(report.failpoints)).toEqual(expect.arrayContaining(FAILPOINTS.map((name) => `${name} passed`)));
  });
});
