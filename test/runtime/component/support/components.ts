/** Components and their invocations in the test's own process. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Ambient } from '../../../../runtime/ambient.ts';
import {
  ComponentExecution,
  type ComponentProgram,
  loadComponent,
  transpileComponent,
} from '../../../../runtime/component/index.ts';
import { type ExecutionEnd, type ExecutionLimits, type ExecutionUsage, Scheduler } from '../../../../runtime/index.ts';
import { type ReplayReport, readSteps, TapePlayer, TapeRecorder } from '../../../../runtime/tape/index.ts';
import { kept } from '../../../support/kept.ts';

export const LIMITS: ExecutionLimits = {
  timeoutMs: 20_000,
  memoryPages: 1_024,
  fuel: 1e12,
  maxResultBytes: 6 * 1024 * 1024,
};

const ROOT = join(import.meta.dirname, '../../../..');
const WIT = join(ROOT, 'wit');
const COMPONENTIZE = readFileSync(join(ROOT, 'node_modules/componentize-qjs/package.json'), 'utf8');

/** JavaScript as a component of the world `function`; sync: whether of the ABI without `async`. */
export async function componentFrom(jsSource: string, sync = true): Promise<Uint8Array> {
  return kept([COMPONENTIZE, readFileSync(join(WIT, 'function.wit'), 'utf8'), jsSource, String(sync)], async () => {
    const { componentize } = await import('componentize-qjs');
    const { component } = await componentize({ witPath: WIT, world: 'function', jsSource, sync });
    return component;
  });
}

/**
 * JavaScript as a component of a world of the test's own. componentize-qjs has WASI of its own while it makes a component, and
 * knows no wasi:http beside that: so WASI goes by another name of the same length meanwhile. With its smaller runtime, which
 * takes it a third less CPU; `componentFrom` has the one that users get.
 */
export function componentOf(wit: string, world: string, jsSource: string): Promise<Uint8Array> {
  return kept([COMPONENTIZE, 'optSize', wit, world, jsSource], () => makeComponent(wit, world, jsSource));
}

async function makeComponent(wit: string, world: string, jsSource: string): Promise<Uint8Array> {
  const folder = mkdtempSync(join(tmpdir(), 'postern-wit-'));
  try {
    writeFileSync(join(folder, 'world.wit'), wit.replaceAll('wasi:', 'wasx:'));
    const source = jsSource.replaceAll('wasi:', 'wasx:');
    const { componentize } = await import('componentize-qjs');
    const { component } = await componentize({ witPath: folder, world, jsSource: source, sync: true, optSize: true });
    return Buffer.from(component.toString('latin1').replaceAll('wasx:', 'wasi:'), 'latin1');
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export async function program(component: Uint8Array): Promise<ComponentProgram> {
  return loadComponent(await transpileComponent(component));
}

export interface HostCall {
  readonly operation: string;
  readonly payload: string;
  answer(ok: boolean, payload: unknown): void;
}

export interface RunOptions {
  readonly event?: unknown;
  readonly meta?: Record<string, unknown>;
  readonly limits?: Partial<ExecutionLimits>;
  readonly lane?: string;
  onHostCall?(call: HostCall): void;
  mayHold?(bytes: number): boolean;
  onStart?(execution: ComponentExecution): void;
  onCast?(payload: string): void;
  /** A recorder, or a player. */
  readonly ambient?: Ambient;
}

/** An invocation after it has ended and nothing of it is on a stack. */
export interface Ran {
  /** The kind of a finished one, or why it was ended. */
  readonly how: string;
  /** The answer's body where it finished with one; else the error's meta, or the end's message. */
  readonly text: string;
  readonly meta: string;
  readonly end: ExecutionEnd;
  readonly usage: ExecutionUsage;
  readonly casts: readonly { level: string; message: string; fields?: unknown }[];
  readonly hostCalls: readonly HostCall[];
  /** Bytes that it held at the end, as it gave them back, and as it had asked for them. */
  readonly heldBytes: number;
  readonly askedBytes: number;
  /** Calls of the listener after `onEnd`. */
  readonly afterEnd: readonly string[];
}

export interface Replayed {
  readonly ran: Ran;
  readonly again: Ran;
  readonly report: ReplayReport;
  /** Kinds of what was recorded. */
  readonly steps: readonly string[];
}

export class TestComponents {
  readonly scheduler = new Scheduler();

  run(component: ComponentProgram, options: RunOptions = {}): Promise<Ran> {
    const { event = {}, meta = {}, lane = 'test' } = options;
    const { promise, resolve } = Promise.withResolvers<Ran>();
    const casts: Ran['casts'][number][] = [];
    const hostCalls: HostCall[] = [];
    const afterEnd: string[] = [];
    let askedBytes = 0;
    let ended: { end: ExecutionEnd; usage: ExecutionUsage } | undefined;
    const note = (what: string): void => {
      if (ended !== undefined) afterEnd.push(what);
    };
    const execution = new ComponentExecution(
      this.scheduler,
      lane,
      { ...LIMITS, ...options.limits },
      component,
      {
        onHostCall: (callId, operation, payload) => {
          note(`hostCall ${operation}`);
          const answer = (ok: boolean, value: unknown): void =>
            execution.settle(callId, ok, Buffer.from(JSON.stringify(value)));
          const call = { operation, payload: payload.toString(), answer };
          hostCalls.push(call);
          options.onHostCall?.(call);
        },
        onCast: (operation, payload) => {
          note(`cast ${operation}`);
          casts.push(JSON.parse(payload.toString()));
          options.onCast?.(payload.toString());
        },
        mayHold: (bytes) => {
          askedBytes += bytes;
          return options.mayHold?.(bytes) ?? true;
        },
        onEnd: (end, usage) => {
          note('end');
          ended ??= { end, usage };
        },
        onFree: (heldBytes) => {
          const { end, usage } = ended as { end: ExecutionEnd; usage: ExecutionUsage };
          // Whatever was still to come by mistake comes before this.
          setImmediate(() =>
            resolve({ ...describe(end), end, usage, casts, hostCalls, heldBytes, askedBytes, afterEnd }),
          );
        },
      },
      options.ambient,
    );
    execution.start(
      Buffer.from(typeof event === 'string' ? event : JSON.stringify(event)),
      Buffer.from(JSON.stringify({ functionName: 'test', env: {}, bodyAt: -1, ...meta })),
    );
    options.onStart?.(execution);
    return promise;
  }

  /** Runs it, and then again with what that was given. */
  async replay(component: ComponentProgram, options: RunOptions): Promise<Replayed> {
    const recorder = new TapeRecorder(1_000_000);
    const ran = await this.run(component, { ...options, ambient: recorder });
    const { recording } = recorder;
    if ('lost' in recording) throw new Error(recording.lost);
    const player = new TapePlayer(recording.tape, false);
    const again = await this.run(component, { ...options, ambient: player });
    return { ran, again, report: player.report, steps: readSteps(recording.tape, 1_000).map(({ kind }) => kind) };
  }

  /** The value that the handler returned; throws where it ended otherwise. */
  async value(component: ComponentProgram, options: RunOptions = {}): Promise<unknown> {
    const ran = await this.run(component, options);
    if (ran.how !== 'value') throw new Error(`the invocation ended as ${ran.how}: ${ran.text}`);
    return JSON.parse(ran.text);
  }
}

function describe(end: ExecutionEnd): { how: string; text: string; meta: string } {
  if (end.reason !== 'finished') return { how: end.reason, text: end.message, meta: '' };
  const { kind, meta, body } = end.finish;
  const hasBody = kind === 'value' || kind === 'http' || kind === 'status';
  return { how: kind, text: (hasBody ? body : meta)?.toString() ?? '', meta: meta?.toString() ?? '' };
}
