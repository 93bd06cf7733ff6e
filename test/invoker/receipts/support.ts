import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { NO_HOST_CALLS } from '../../../invoker/receipts/host-call-digests.ts';
import { type InvocationFacts, type Signer, signerOf } from '../../../invoker/receipts/index.ts';
import { merkleRoot } from '../../../invoker/receipts/merkle.ts';

export const newSigner = (): Signer => signerOf(generateKeyPairSync('ed25519').privateKey);

/** What a checkpoint says of receipts in a row. */
export function runOf(receipts: readonly { seq: number; prev: string; hash: string }[]) {
  const [first, last] = [receipts[0]!, receipts.at(-1)!];
  const root = merkleRoot(receipts.map(({ hash }) => hash));
  return { first: first.seq, last: last.seq, prev: first.prev, hash: last.hash, root };
}

/** A day in the life of a function, with what a test wants otherwise. */
export function facts(part: Partial<InvocationFacts> = {}): InvocationFacts {
  return {
    request: {
      trigger: 'manual',
      identity: { role: 'anon', claims: null, userId: null },
      eventJson: '{"n":1}',
    },
    version: VERSION,
    result: {
      invocationId: randomUUID(),
      functionName: 'add-one',
      version: 3,
      outcome: 'ok',
      response: { kind: 'value', json: '2' },
      usage: {
        durationMs: 1.23456,
        cpuMs: 0.5,
        fuel: 1234,
        peakMemoryBytes: 65_536,
        hostCalls: 0,
        clockReads: 0,
        randomBytes: 0,
      },
    },
    startedAtMs: Date.UTC(2026, 0, 2, 3, 4, 5, 678),
    hostCalls: NO_HOST_CALLS,
    ...part,
  };
}

const VERSION = {
  functionId: 1,
  name: 'add-one',
  version: 3,
  versionId: 'c'.repeat(64),
  config: { timeoutMs: 5_000, memoryBytes: 64 * 1024 * 1024, cpu: Number.POSITIVE_INFINITY, name: 'add-one' },
  envJson: '{}',
  redact: (text: string) => text,
} as unknown as InvocationFacts['version'];
