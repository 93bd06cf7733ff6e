import { PosternError, type ReplaySummary, type SaidStep } from '../../runtime/index.ts';

/** Of a step, to either side of where it differs. */
const SHOWN_CHARACTERS = 400;
const MAX_RESULT_CHARACTERS = 64 * 1024;

type Redact = (text: string) => string;

/** Reads what an executor says of a replay, and makes it what a person may see. */
export function readSummary(json: string, redact: Redact): ReplaySummary {
  const said = objectOf(parsed(json));
  const { same, steps, hostCalls } = said;
  if (typeof same !== 'boolean' || !isCount(steps) || !isCount(hostCalls)) throw strange();
  return {
    same,
    steps,
    hostCalls,
    ...(said.difference === undefined ? {} : { difference: differenceOf(objectOf(said.difference), redact) }),
    ...(said.unanswered === undefined ? {} : { unanswered: shortened(stepOf(said.unanswered, redact), 0) }),
    ...(said.finish === undefined ? {} : { finish: cut(stepOf(said.finish, redact), MAX_RESULT_CHARACTERS) }),
    ...(said.end === undefined ? {} : { end: textOf(said.end) }),
    ...(said.lost === undefined ? {} : { lost: redact(textOf(said.lost)) }),
  };
}

export function shownStep(step: SaidStep, redact: Redact): SaidStep {
  return shortened({ ...step, text: redact(step.text) }, 0);
}

/** Both are redacted before they are cut: half a secret is none that redaction knows. */
function differenceOf(said: Record<string, unknown>, redact: Redact): NonNullable<ReplaySummary['difference']> {
  const { steps, hostCalls } = said;
  if (!isCount(steps) || !isCount(hostCalls)) throw strange();
  const [recorded, now] = [stepOf(said.recorded, redact), stepOf(said.now, redact)];
  let same = 0;
  while (same < recorded.text.length && recorded.text[same] === now.text[same]) same++;
  return { steps, hostCalls, recorded: shortened(recorded, same), now: shortened(now, same) };
}

function shortened(step: SaidStep, at: number): SaidStep {
  const from = Math.max(0, at - SHOWN_CHARACTERS);
  const shown = step.text.slice(from, at + SHOWN_CHARACTERS);
  const text = `${from > 0 ? '…' : ''}${shown}${at + SHOWN_CHARACTERS < step.text.length ? '…' : ''}`;
  return { ...step, text };
}

function cut(step: SaidStep, characters: number): SaidStep {
  return { ...step, text: step.text.slice(0, characters) };
}

function stepOf(said: unknown, redact: Redact): SaidStep {
  const { kind, operation, text } = objectOf(said);
  const step = { kind: textOf(kind) as SaidStep['kind'], text: redact(textOf(text)) };
  return operation === undefined ? step : { ...step, operation: textOf(operation).slice(0, 64) };
}

function objectOf(said: unknown): Record<string, unknown> {
  if (typeof said !== 'object' || said === null) throw strange();
  return said as Record<string, unknown>;
}

function textOf(said: unknown): string {
  if (typeof said !== 'string') throw strange();
  return said;
}

function isCount(said: unknown): said is number {
  return typeof said === 'number' && Number.isSafeInteger(said) && said >= 0;
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw strange();
  }
}

function strange(): PosternError {
  return new PosternError('INTERNAL_ERROR', 'an executor said of a replay what makes no sense');
}
