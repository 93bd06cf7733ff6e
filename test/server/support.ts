/** A whole node over a test database: real executors, real HTTP; row changes are somebody else's tests. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SignJWT } from 'jose';
import pino from 'pino';
import { PosternError } from '../../runtime/index.ts';
import { bundle } from '../../runtime/javascript/bundle/index.ts';
import { type DatabaseTriggers, type NodeParts, type RunningPostern, startNode } from '../../server/node.ts';
import type { StartOptions } from '../../server/options.ts';
import type { TestDatabase } from '../support/postgres.ts';

export const ADMIN_KEY = 'an-admin-key-for-tests';
export const JWT_SECRET = 'a-test-secret-that-has-more-than-32-bytes';
const MASTER_KEY = 'a-master-key-for-tests-of-32-bytes-or-more';

/** Refuses what needs SQL triggers; events are rows that a test puts there. */
export class NoRowEvents implements DatabaseTriggers {
  readonly steps: string[] = [];
  readonly redriven: string[] = [];

  readonly installer = {
    install: async (_client: unknown, _id: number, name: string, triggers: readonly { type: string }[]) => {
      if (triggers.some(({ type }) => type === 'database'))
        throw new PosternError('INVALID_FUNCTION', `no row events for ${name}`);
    },
    uninstall: async () => {},
  };
  readonly events = {
    list: async () => ({ events: [], nextCursor: null }),
    show: async () => null,
    redriveAll: async () => 0,
    discard: async () => false,
    triggers: async () => [],
    drift: async () => [],
    setPaused: async () => [],
    redrive: async (id: string) => {
      this.redriven.push(id);
      return id.startsWith('00000000');
    },
  };

  async counts() {
    return { pending: 3, dead: 1, oldestSeconds: 0 };
  }
  readonly listens = true;
  readonly drifted = 0;
  async start() {
    this.steps.push('start');
  }
  async stop() {
    this.steps.push('stop');
  }
}

export interface TestPostern extends RunningPostern {
  readonly triggers: NoRowEvents;
  /** Lines that functions logged. */
  readonly logged: string[];
  /** With the admin key; a body is sent as JSON. */
  admin(method: string, path: string, body?: unknown): Promise<{ status: number; body: Record<string, unknown> }>;
  deploy(
    name: string,
    source: string,
    config?: Record<string, unknown>,
  ): Promise<{ status: number; body: Record<string, unknown> }>;
  call(path: string, init?: RequestInit): Promise<Response>;
  token(claims?: Record<string, unknown>): Promise<string>;
}

export async function startTestPostern(
  db: TestDatabase,
  options: Partial<StartOptions> = {},
  more: Partial<NodeParts> = {},
): Promise<TestPostern> {
  const dataDir = await mkdtemp(join(tmpdir(), 'postern-node-'));
  const triggers = new NoRowEvents();
  const logged: string[] = [];
  const running = await startNode(
    {
      mode: 'serve',
      host: '127.0.0.1',
      port: 0,
      dataDir,
      databaseUrl: db.url,
      adminKey: ADMIN_KEY,
      jwtSecret: JWT_SECRET,
      masterKey: MASTER_KEY,
      executors: 1,
      ...options,
    },
    {
      log: pino({ level: process.env.POSTERN_TEST_LOG ?? 'silent' }),
      logOutput: { write: (line) => logged.push(line) },
      bundler: { bundle },
      databaseTriggers: () => triggers,
      environment: { POSTERN_VAR_GREETING: 'hello', DATABASE_URL: 'never' },
      ...more,
    },
  );
  const admin: TestPostern['admin'] = async (method, path, body) => {
    const response = await fetch(running.url + path, {
      method,
      headers: {
        authorization: `Bearer ${ADMIN_KEY}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, body: text === '' ? {} : JSON.parse(text) };
  };
  return {
    ...running,
    triggers,
    logged,
    admin,
    deploy: (name, source, config = {}) => admin('POST', '/functions', { name, source, ...config }),
    call: (path, init) => fetch(running.url + path, init),
    token: (claims = {}) =>
      new SignJWT({ role: 'authenticated', exp: Math.floor(Date.now() / 1_000) + 600, ...claims })
        .setProtectedHeader({ alg: 'HS256' })
        .sign(Buffer.from(JWT_SECRET)),
    stop: async () => {
      await running.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}
