/**
 * Places at which a test can end, fail or hold up a node: between two steps of which the second may never come. Chaos runs
 * (chaos/) set them by an environment variable; without it, a failpoint is one comparison.
 *
 *     POSTERN_FAILPOINTS='after_lease_commit:kill:p=0.1:seed=7;before_ack:delay:ms=300'
 *
 * `kill` sends this process SIGKILL, `throw` throws, `delay` blocks the event loop for `ms` (default 100), `note` does
 * nothing. `p` is how likely that is at each pass (default 1), drawn from `seed` (default 1). While the variable is set,
 * standard error says once of each failpoint that it was passed, and each time what was done there.
 */

import { writeSync } from 'node:fs';

/**
 * All of them, in the order of one delivery: how its event comes to be, and what becomes of it. A test asserts that a chaos run
 * passes every one.
 */
export const FAILPOINTS = [
  'before_fire_commit',
  'after_fire_commit',
  'before_accept',
  'after_accept_commit',
  'before_lease',
  'after_lease_commit',
  'after_group_lease_commit',
  'before_dispatch',
  'before_atomic_commit',
  'after_atomic_commit',
  'after_result',
  'before_ack',
  'after_ack_commit',
  'before_setback',
  'after_setback_commit',
  // Of a call with an Idempotency-Key.
  'after_key_commit',
  'before_answer_kept',
  'after_answer_kept',
] as const;
export type Failpoint = (typeof FAILPOINTS)[number];

const ACTIONS = ['kill', 'throw', 'delay', 'note'] as const;
type Action = (typeof ACTIONS)[number];
const DEFAULT_DELAY_MS = 100;

interface Rule {
  readonly action: Action;
  readonly probability: number;
  readonly delayMs: number;
  readonly random: () => number;
}

class FailpointError extends Error {
  override readonly name = 'FailpointError';
}

class ArmedFailpoints {
  readonly #rules: ReadonlyMap<string, Rule>;
  readonly #passed = new Set<Failpoint>();

  constructor(text: string) {
    this.#rules = new Map(text.split(';').filter(Boolean).map(parseEntry));
  }

  pass(name: Failpoint): void {
    if (!this.#passed.has(name)) say(`failpoint ${name} passed`);
    this.#passed.add(name);
    const rule = this.#rules.get(name);
    if (rule === undefined || rule.random() >= rule.probability) return;
    say(`failpoint ${name} ${rule.action}`);
    if (rule.action === 'kill') process.kill(process.pid, 'SIGKILL');
    if (rule.action === 'throw') throw new FailpointError(`failpoint ${name}`);
    if (rule.action === 'delay') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, rule.delayMs);
  }
}

/** Written before the next instruction, which may be the last. */
function say(line: string): void {
  writeSync(2, `${line}\n`);
}

function parseEntry(entry: string): [Failpoint, Rule] {
  const [name = '', action = '', ...settings] = entry.split(':');
  if (!isOneOf(FAILPOINTS, name)) throw wrong(entry, `failpoint "${name}"`, FAILPOINTS.join(', '));
  if (!isOneOf(ACTIONS, action)) throw wrong(entry, `action "${action}"`, ACTIONS.join(', '));
  const values = new Map<string, number>();
  for (const setting of settings) {
    const [key = '', text = ''] = setting.split('=');
    const value = Number(text);
    const good = (key === 'p' && value <= 1) || ((key === 'seed' || key === 'ms') && Number.isInteger(value));
    if (text === '' || !good || value < 0) throw wrong(entry, setting, 'p=<0 to 1>, seed=<number>, ms=<number>');
    values.set(key, value);
  }
  const rule: Rule = {
    action,
    probability: values.get('p') ?? 1,
    delayMs: values.get('ms') ?? DEFAULT_DELAY_MS,
    random: seededRandom(values.get('seed') ?? 1),
  };
  return [name, rule];
}

function isOneOf<T extends string>(list: readonly T[], text: string): text is T {
  return (list as readonly string[]).includes(text);
}

function wrong(entry: string, given: string, allowed: string): FailpointError {
  return new FailpointError(`POSTERN_FAILPOINTS: ${given} in "${entry}"; allowed: ${allowed}`);
}

/** Numbers in [0, 1), the same ones for the same seed. Mulberry32. */
export function seededRandom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

let armed: ArmedFailpoints | null = null;

/** Null disarms all. Throws for text that can't be read. */
export function armFailpoints(text: string | null): void {
  armed = text === null ? null : new ArmedFailpoints(text);
}

armFailpoints(process.env.POSTERN_FAILPOINTS ?? null);

/** Does what was asked for at this place: nothing, outside a chaos run. */
export function failpoint(name: Failpoint): void {
  if (armed !== null) armed.pass(name);
}
