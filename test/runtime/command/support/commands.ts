/** Commands in this process, as an executor runs them: built, loaded, one scheduler, many invocations. */

import type { Ambient } from '../../../../runtime/ambient.ts';
import { CommandExecution } from '../../../../runtime/command/command-execution.ts';
import { buildCommand, type CommandProgram, loadCommand } from '../../../../runtime/command/command-program.ts';
import type { ExecutionEnd, ExecutionLimits, ExecutionUsage } from '../../../../runtime/execution.ts';
import { Scheduler } from '../../../../runtime/scheduler.ts';

const MAX_PAGES = 8_192;

export const LIMITS: ExecutionLimits = {
  timeoutMs: 10_000,
  memoryPages: 1_024,
  fuel: 1e11,
  maxResultBytes: 6 * 1024 * 1024,
};

export interface HostCall {
  readonly operation: string;
  readonly payload: string;
  answer(ok: boolean, payload: string): void;
}

export interface RunOptions {
  readonly event?: unknown;
  /** In place of `event`, as it is. */
  readonly eventText?: string;
  readonly env?: Record<string, string>;
  readonly functionName?: string;
  readonly limits?: Partial<ExecutionLimits>;
  readonly lane?: string;
  readonly scheduler?: Scheduler;
  onHostCall?(call: HostCall): void;
  onStart?(execution: CommandExecution): void;
  mayHold?(bytes: number): boolean;
  /** A recorder, or a player. */
  readonly ambient?: Ambient;
}

/** An invocation that has ended, and of which nothing is held any more. */
export interface Ran {
  /** The kind of a finished one, or why it was ended. */
  readonly how: string;
  /** The result's text, or the error's record or message. */
  readonly text: string;
  readonly end: ExecutionEnd;
  readonly usage: ExecutionUsage;
  readonly casts: readonly { operation: string; payload: string }[];
  readonly hostCalls: readonly HostCall[];
  readonly heldBytes: number;
  readonly freedBytes: number;
  /** Calls of the listener after `onEnd` but onFree: an honest execution makes none. */
  readonly afterEnd: readonly string[];
  readonly ends: number;
  readonly frees: number;
}

const shared = new Scheduler();

export function programOf(module: Uint8Array, maxPages = MAX_PAGES): Promise<CommandProgram> {
  return loadCommand(buildCommand(module, maxPages));
}

export async function run(program: CommandProgram | Promise<CommandProgram>, options: RunOptions = {}): Promise<Ran> {
  return runLoaded(await program, options);
}

function runLoaded(program: CommandProgram, options: RunOptions): Promise<Ran> {
  const { promise, resolve } = Promise.withResolvers<Ran>();
  const casts: { operation: string; payload: string }[] = [];
  const hostCalls: HostCall[] = [];
  const afterEnd: string[] = [];
  let heldBytes = 0;
  let ended: { end: ExecutionEnd; usage: ExecutionUsage } | undefined;
  let ends = 0;
  let frees = 0;
  const note = (what: string): void => {
    if (ended !== undefined) afterEnd.push(what);
  };
  const limits = { ...LIMITS, ...options.limits };
  const execution = new CommandExecution(
    options.scheduler ?? shared,
    options.lane ?? 'test',
    limits,
    program,
    {
      onHostCall: (callId, operation, payload) => {
        note(`hostCall ${operation}`);
        // As from another process: never from within the call.
        const answer = (ok: boolean, text: string): void => {
          setImmediate(() => execution.settle(callId, ok, Buffer.from(text)));
        };
        const call = { operation, payload: payload.toString(), answer };
        hostCalls.push(call);
        options.onHostCall?.(call);
      },
      onCast: (operation, payload) => {
        note(`cast ${operation}`);
        casts.push({ operation, payload: payload.toString() });
      },
      onEnd: (end, usage) => {
        ends++;
        ended ??= { end, usage };
      },
      mayHold: (bytes) => {
        note('mayHold');
        if (options.mayHold?.(bytes) === false) return false;
        heldBytes += bytes;
        return true;
      },
      onFree: (freedBytes) => {
        frees++;
        const { end, usage } = ended as { end: ExecutionEnd; usage: ExecutionUsage };
        // Whatever was still to come by mistake comes before this.
        setImmediate(() => {
          resolve({ ...describeEnd(end), end, usage, casts, hostCalls, heldBytes, freedBytes, afterEnd, ends, frees });
        });
      },
    },
    options.ambient,
  );
  const meta = { functionName: options.functionName ?? 'test', env: options.env ?? {} };
  const text = options.eventText ?? JSON.stringify(options.event ?? {});
  execution.start(Buffer.from(text), Buffer.from(JSON.stringify(meta)));
  options.onStart?.(execution);
  return promise;
}

/** The result's JSON; throws where it ended otherwise. */
export async function value(program: CommandProgram, options: RunOptions = {}): Promise<unknown> {
  const ran = await run(program, options);
  if (ran.how !== 'value') throw new Error(`the invocation ended as ${ran.how}: ${ran.text}`);
  return JSON.parse(ran.text);
}

/** The log's lines. */
export function logged(ran: Ran): string[] {
  return ran.casts.map(({ payload }) => (JSON.parse(payload) as { message: string }).message);
}

function describeEnd(end: ExecutionEnd): { how: string; text: string } {
  if (end.reason !== 'finished') return { how: end.reason, text: end.message };
  const { kind, meta, body } = end.finish;
  const text = kind === 'value' || kind === 'status' ? body : meta;
  return { how: kind, text: text?.toString() ?? '' };
}
