/**
 * The host's side of the door (`guest/host.ts`): reads the arguments that a guest passes, which may be anything, and
 * says what they mean. Nothing here runs guest code: only strings and numbers are read.
 */

import type { Finish, FinishKind } from '../execution.ts';
import { DOOR, FINISH, REFUSED } from './guest/door.ts';
import type { Box, Sandbox } from './sandbox.ts';

/** What a guest asks through the door. Payloads are UTF-8 bytes, not yet checked for anything but their size. */
export interface DoorHandler {
  /** Returns the call's id, or one of REFUSED. */
  onCall(operation: string, payload: Buffer): number;
  onCast(operation: string, payload: Buffer): void;
  onSetTimer(timerId: number, delayMs: number): void;
  onClearTimer(timerId: number): void;
  onFinish(finish: Finish): void;
  onRelease(): void;
  onWatchRejections(): void;
  /** The guest passed what can't be: a defect of the prelude or an attempt on it. The guest is ended. */
  onMisuse(what: string): void;
}

const KINDS: Readonly<Record<number, FinishKind>> = {
  [FINISH.value]: 'value',
  [FINISH.http]: 'http',
  [FINISH.exception]: 'exception',
  [FINISH.invalid]: 'invalid',
  [FINISH.status]: 'status',
};

/** A host call's payload may be this large; `http.fetch` and `db.query` have lower limits of their own. */
const MAX_PAYLOAD_BYTES = 16 * 1024 * 1024;
const MAX_OPERATION_BYTES = 64;
/** Of an answer's description: the headers of a response, or an error with its stack. */
export const MAX_META_BYTES = 256 * 1024;

export function openDoor(
  sandbox: Sandbox,
  argc: number,
  argv: number,
  maxResultBytes: number,
  handler: DoorHandler,
): number | string | undefined {
  const args: Box[] = [];
  for (let index = 0; index < Math.min(argc, 4); index++)
    args.push(sandbox.instance.view.getUint32(argv + index * 4, true));
  const number = (index: number): number => {
    const box = args[index];
    return box !== undefined && sandbox.isNumber(box) ? sandbox.readNumber(box) : Number.NaN;
  };
  const isText = (index: number): boolean => {
    const box = args[index];
    return box !== undefined && sandbox.isString(box);
  };
  const text = (index: number, maxBytes: number): Buffer | null =>
    isText(index) ? sandbox.readString(args[index] as Box, maxBytes) : null;
  const what = number(0);
  switch (what) {
    case DOOR.call:
    case DOOR.cast: {
      const operation = text(1, MAX_OPERATION_BYTES);
      const payload = text(2, MAX_PAYLOAD_BYTES);
      if (operation === null || !isText(2)) break;
      // A string, but too large: what a function's author may well do.
      if (payload === null) return what === DOOR.call ? REFUSED.bytes : undefined;
      if (what === DOOR.call) return handler.onCall(operation.toString(), payload);
      handler.onCast(operation.toString(), payload);
      return undefined;
    }
    case DOOR.setTimer:
      handler.onSetTimer(number(1), number(2));
      return undefined;
    case DOOR.clearTimer:
      handler.onClearTimer(number(1));
      return undefined;
    case DOOR.finish: {
      const code = number(1);
      const kind = KINDS[code & ~FINISH.held];
      const meta = text(2, MAX_META_BYTES);
      if (kind === undefined) break;
      handler.onFinish({ kind, meta, body: text(3, maxResultBytes), held: (code & FINISH.held) !== 0 });
      return undefined;
    }
    case DOOR.release:
      handler.onRelease();
      return undefined;
    case DOOR.watchRejections:
      handler.onWatchRejections();
      return undefined;
    case DOOR.part: {
      const source = sandbox.partSource(text(1, MAX_OPERATION_BYTES)?.toString() ?? '');
      if (source === undefined) break;
      return source;
    }
  }
  handler.onMisuse(`door(${what}, …) with arguments that it does not take`);
  return undefined;
}
