import { UNKNOWN_CALLEE_COST } from '../wasm/opcodes.ts';
import type { CallCosts, ChargePlanner } from './charge-plan.ts';

/**
 * Folding: a small function's entry is not charged where it begins but at each direct call to it, as part of what the
 * caller's own region costs. It saves the load, store and branch of a charge in the functions that are called most.
 *
 * What makes it sound: every endless execution must pass charges for ever, so every cycle of calls must contain a
 * function that charges at its entry. Cycles of direct calls: a function that is met again while its own callees are
 * being looked at is never folded. Cycles through a table, an import or the host enter a function by reference or by
 * export: such a function is folded only if its whole work is bounded, by what
 * call_indirect pays for any callee (so only the host's own calls are unpaid, by as much).
 */
export interface FoldLimits {
  /** Only bodies of at most so many bytes are looked at. */
  readonly maxBytes: number;
  /** The most that is folded into a direct call: callers pay for the longest path, taken or not. */
  readonly maxCost: number;
}

export const FOLD_LIMITS: FoldLimits = { maxBytes: 600, maxCost: 120 };

/** The defined functions' bodies, by function index minus the imported ones. */
export interface FunctionBodies {
  readonly count: number;
  /** Offset of each body, behind its length. */
  readonly start: Int32Array;
  readonly end: Int32Array;
  /** How many parameters each has. */
  readonly parameters: Int32Array;
}

const UNSEEN = 0;
const OPEN = 1;
const DECIDED = 2;

/** Fills `calls.foldedCost` and `calls.bounded`: callees first, depth first, with a path of its own (bodies may nest deep). */
export function foldSmallFunctions(
  bodies: FunctionBodies,
  calls: CallCosts,
  planner: ChargePlanner,
  isReachedByReference: (functionIndex: number) => boolean,
  limits: FoldLimits,
): void {
  const imported = calls.importedFunctions;
  const state = new Uint8Array(bodies.count);
  const recursive = new Uint8Array(bodies.count);
  const path: number[] = [];
  const calleesLeft: number[][] = [];
  const isSmall = (body: number) => bodies.end[body]! - bodies.start[body]! <= limits.maxBytes;
  const plan = (body: number) =>
    planner.plan(body + imported, bodies.parameters[body]!, bodies.start[body]!, bodies.end[body]!);

  const decide = (body: number): void => {
    state[body] = DECIDED;
    if (recursive[body]) return;
    const functionIndex = body + imported;
    const { entryCost, isBounded } = plan(body);
    const byReference = isReachedByReference(functionIndex);
    if (byReference && !isBounded) return;
    if (entryCost > (byReference ? UNKNOWN_CALLEE_COST : limits.maxCost)) return;
    calls.foldedCost[functionIndex] = entryCost;
    calls.bounded[functionIndex] = isBounded ? 1 : 0;
  };

  for (let root = 0; root < bodies.count; root++) {
    if (state[root] === UNSEEN && isSmall(root)) open(root);
    while (path.length > 0) {
      const callee = calleesLeft[calleesLeft.length - 1]!.pop();
      if (callee === undefined) {
        calleesLeft.pop();
        decide(path.pop()!);
        continue;
      }
      const body = callee - imported;
      if (state[body] === OPEN) recursive[body] = 1;
      else if (state[body] === UNSEEN && isSmall(body)) open(body);
    }
  }

  function open(body: number): void {
    state[body] = OPEN;
    path.push(body);
    plan(body);
    calleesLeft.push(planner.callees.slice());
  }
}
