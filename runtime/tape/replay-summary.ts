import { TapeReader } from './format.ts';
import type { ReplayReport, StepNow } from './tape-player.ts';

/** A step, for whoever was not there. */
export interface SaidStep {
  readonly kind: StepNow['kind'];
  /** Of a host call, or of what was told without waiting for an answer. */
  readonly operation?: string;
  /** What was said with it, or what of it lies around the first byte that is not the same. */
  readonly text: string;
}

/** A replay's report as an executor sends it: without what is the same. */
export interface ReplaySummary {
  readonly same: boolean;
  readonly steps: number;
  readonly hostCalls: number;
  readonly difference?: {
    readonly steps: number;
    readonly hostCalls: number;
    readonly recorded: SaidStep;
    readonly now: SaidStep;
  };
  readonly unanswered?: SaidStep;
  readonly end?: string;
  /** What a run that departed came to. */
  readonly finish?: SaidStep;
  readonly lost?: string;
}

/** More than anybody reads: what is cut away must not be the half of a secret beside what is shown. */
const MAX_TEXT_BYTES = 32 * 1024;
const MAX_RESULT_BYTES = 256 * 1024;

export function summarize({ difference, unanswered, finish, ...rest }: ReplayReport): ReplaySummary {
  return {
    ...rest,
    ...(difference === undefined ? {} : { difference: { ...difference, ...saidBoth(difference) } }),
    ...(unanswered === undefined ? {} : { unanswered: said(unanswered, 0) }),
    ...(finish === undefined || rest.same ? {} : { finish: said({ kind: 'finish', finish }, 0, MAX_RESULT_BYTES) }),
  };
}

/** The first steps of a tape, a clock's that says the same again once. Throws TapeError. */
export function readSteps(tape: Uint8Array, maxSteps: number): SaidStep[] {
  const steps: SaidStep[] = [];
  for (const step of new TapeReader(tape).rest()) {
    if (steps.length >= maxSteps) break;
    steps.push(said(step, 0));
  }
  return steps;
}

function saidBoth({ recorded, now }: { recorded: StepNow; now: StepNow }): { recorded: SaidStep; now: SaidStep } {
  const [before, after] = [contentOf(recorded), contentOf(now)];
  let same = 0;
  while (same < before.length && before[same] === after[same]) same++;
  const from = Math.max(0, same - MAX_TEXT_BYTES / 2);
  return { recorded: said(recorded, from), now: said(now, from) };
}

function said(step: StepNow, from: number, maxBytes = MAX_TEXT_BYTES): SaidStep {
  const text = contentOf(step)
    .subarray(from, from + maxBytes)
    .toString();
  const { kind } = step;
  return kind === 'call' || kind === 'cast' ? { kind, operation: step.operation, text } : { kind, text };
}

function contentOf(step: StepNow): Buffer {
  switch (step.kind) {
    case 'call':
    case 'cast':
      return step.payload;
    case 'settle':
      return Buffer.from(step.payload);
    case 'finish': {
      const { kind, meta, body } = step.finish;
      return Buffer.concat([Buffer.from(`${kind} `), meta ?? NOTHING, body ?? NOTHING]);
    }
    case 'end':
      return Buffer.from(step.reason);
    case 'random':
      return Buffer.from(`${step.bytes.length} bytes`);
    case 'realtime':
    case 'monotonic':
      return Buffer.from(String(step.ms));
    case 'fire':
      return Buffer.from(`timer ${step.timerId}`);
    default:
      return NOTHING;
  }
}

const NOTHING = Buffer.alloc(0);
