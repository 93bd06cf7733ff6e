import type { ComponentProgram } from '../../../../runtime/component/index.ts';
import { componentFrom, program } from './components.ts';

/**
 * A component that evaluates what the event says, as the body of a function of `db`, `log`, `env`, `http` and `state`: making
 * one takes seconds, so the tests of a file share it. `state` is a global of the guest.
 */
export async function scriptComponent(): Promise<ComponentProgram> {
  return program(await componentFrom(SOURCE));
}

const SOURCE = `
import * as db from 'postern:function/database@0.1.0';
import * as log from 'postern:function/logging@0.1.0';
import * as env from 'postern:function/environment@0.1.0';
import * as http from 'postern:function/http@0.1.0';
const state = { count: 0 };
export function handler(event) {
  const { code } = JSON.parse(event);
  const run = new Function('db', 'log', 'env', 'http', 'state', 'event', code);
  const result = run(db, log, env, http, state, event);
  return typeof result === 'string' && result.startsWith('raw:') ? result.slice(4) : JSON.stringify(result ?? null);
}`;

/** The event that makes it run `code`. */
export const script = (code: string): { event: { code: string } } => ({ event: { code } });
