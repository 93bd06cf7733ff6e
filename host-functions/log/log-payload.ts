import type { LogLine } from '../../runtime/index.ts';

/** What the guest's face casts: `{"level":"info","message":"…","fields":{…}?}`. The guest may send anything. */

const LEVELS: Readonly<Record<string, LogLine['level']>> = {
  debug: 'DEBUG',
  info: 'INFO',
  warn: 'WARN',
  error: 'ERROR',
};

/** A line is cut to 8 KB later; this only keeps a huge payload from being parsed. The face sends a quarter of it. */
const MAX_PAYLOAD_CHARACTERS = 64 * 1024;

/** Never throws: what is not a line becomes one that says so. */
export function parseLogPayload(payload: string, timeMs: number): LogLine {
  if (payload.length > MAX_PAYLOAD_CHARACTERS) {
    return { level: 'WARN', message: `a log line of ${payload.length} characters was dropped`, timeMs };
  }
  try {
    return lineFrom(JSON.parse(payload), timeMs);
  } catch {
    return { level: 'WARN', message: 'a malformed log line was dropped', timeMs };
  }
}

function lineFrom(value: unknown, timeMs: number): LogLine {
  if (typeof value !== 'object' || value === null) throw new TypeError('not a line');
  const { level, message, fields } = value as { level?: unknown; message?: unknown; fields?: unknown };
  const known =
    typeof level === 'string' && Object.hasOwn(LEVELS, level) ? (LEVELS[level] as LogLine['level']) : 'INFO';
  const text = typeof message === 'string' ? message : String(JSON.stringify(message));
  const isObject = typeof fields === 'object' && fields !== null && !Array.isArray(fields);
  return { level: known, message: text, timeMs, ...(isObject ? { fields: JSON.stringify(fields) } : {}) };
}
