/**
 * What an API key's code may use. Nothing is allowed by default but computing; a policy's rules are checked before anything
 * runs, and each refusal names the rule.
 */

import { z } from 'zod';
import { parseAllowEntry } from '../../host-functions/index.ts';
import { duration, EVALUATED_LANGUAGES, type EvaluatedLanguage, size } from '../../invoker/index.ts';
import { PosternError } from '../../runtime/index.ts';
import type { ExecuteRequest } from './execute-request.ts';

const MB = 2 ** 20;
const KB = 2 ** 10;
/** Of the code that a request may bring whatever its policy says. */
export const MAX_CODE_BYTES = MB;
export const MAX_INPUT_BYTES = 6 * MB;
const NAMES_TEXT = 'a list of at most 100 names of letters, digits and underscores';
const CPU_TEXT = 'a positive whole number of metered instructions';

/** As people write it; each rule that is left out has its default. */
export const rulesSchema = z.strictObject({
  languages: z.array(z.enum(EVALUATED_LANGUAGES)).default([...EVALUATED_LANGUAGES]),
  code: size(1, MAX_CODE_BYTES).default(64 * KB),
  input: size(1, MAX_INPUT_BYTES).default(MB),
  timeout: duration(1, 300_000).default(10_000),
  memory: size(16 * MB, 512 * MB).default(128 * MB),
  cpu: z.int({ error: CPU_TEXT }).min(1, { error: CPU_TEXT }).default(10_000_000_000),
  http: z
    .strictObject({ allow: z.array(z.string().max(300).refine(isHost)).max(100).default([]) })
    .default({ allow: [] }),
  env: z
    .array(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, { error: NAMES_TEXT }))
    .max(100)
    .default([]),
  /** Roles of API keys whose code may use `db`, with that role's rights. */
  roles: z.array(z.enum(['anon', 'authenticated', 'service_role'])).default([]),
  /** How many a key may have open. */
  sessions: z.int().min(0).max(10_000).default(0),
  /** Runs at once, of a key, on a node; others wait. */
  concurrency: z.int().min(1).max(1_000).default(4),
  cache: z.boolean().default(true),
  /** Whether runs may be recorded: what they were given is kept for the operator. */
  record: z.boolean().default(false),
  /** Bytes of large results and printed text that are kept for a key at a time. */
  outputs: size(0, 10 * 2 ** 30).default(100 * MB),
});

export type PolicyRules = z.output<typeof rulesSchema>;

export interface Policy {
  readonly name: string;
  readonly rules: PolicyRules;
}

function isHost(entry: string): boolean {
  try {
    parseAllowEntry(entry);
    return true;
  } catch {
    return false;
  }
}

/** What JSON may make of a byte of code: `\u000a`. */
const MAX_ESCAPED_BYTES = 6;
/** Names, hosts and a session at their longest. */
const OTHER_BYTES = 64 * KB;

/** Of a request's body without its input. */
export function maxCodeBytes({ rules }: Policy): number {
  return MAX_ESCAPED_BYTES * rules.code + OTHER_BYTES;
}

/** Of a request's body. */
export function maxBodyBytes(policy: Policy): number {
  return maxCodeBytes(policy) + policy.rules.input;
}

type StoredPolicy = { readonly name: string; readonly rules: unknown };
/** By what keys of this node's memory hold, which is another object when it changed. */
const known = new WeakMap<StoredPolicy, Policy>();

/** Of what is stored. A rule that this release does not know would not be kept, so such a policy allows nothing. */
export function readPolicy(stored: StoredPolicy): Policy {
  const policy = known.get(stored) ?? parsePolicy(stored);
  known.set(stored, policy);
  return policy;
}

function parsePolicy({ name, rules }: StoredPolicy): Policy {
  const parsed = rulesSchema.safeParse(rules);
  if (parsed.success) return { name, rules: parsed.data };
  throw new PosternError('OVERLOADED', `the policy '${name}' has rules that this node does not know`);
}

/** Throws POLICY_REFUSED; `details` has rule, given and allowed. */
export function checkPolicy({ name, rules }: Policy, request: ExecuteRequest, inputBytes: number): void {
  const refuse = (rule: string, given: unknown, allowed: unknown): never => {
    const text = `the policy '${name}' refuses the run: ${rule} is ${spell(given)}, allowed is ${spell(allowed)}`;
    throw new PosternError('POLICY_REFUSED', text, { details: { policy: name, rule, given, allowed } });
  };
  const atMost = (rule: string, given: number | undefined, allowed: number): void => {
    if (given !== undefined && given > allowed) refuse(rule, given, allowed);
  };
  const within = (rule: string, given: readonly string[], allowed: readonly string[]): void => {
    const beyond = given.filter((one) => !allowed.includes(one));
    if (beyond.length > 0) refuse(rule, beyond, allowed);
  };
  within('languages', [request.language satisfies EvaluatedLanguage], rules.languages);
  const modules = Object.values(request.dependencies);
  const codeBytes = [request.code, ...modules].reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  atMost('code', codeBytes, rules.code);
  atMost('input', inputBytes, rules.input);
  atMost('timeout', request.timeoutMs, rules.timeout);
  atMost('memory', request.memoryBytes, rules.memory);
  atMost('cpu', request.cpu, rules.cpu);
  within('http.allow', request.http.allow, rules.http.allow);
  within('env', request.env, rules.env);
  if (request.session !== undefined) atMost('sessions', 1, rules.sessions);
  if (request.cache && !rules.cache) refuse('cache', true, false);
  if (request.record !== undefined && !rules.record) refuse('record', request.record, false);
}

function spell(value: unknown): string {
  if (!Array.isArray(value)) return String(value);
  return value.length === 0 ? 'nothing' : value.map(String).join(', ').slice(0, 500);
}
