import { castHost } from '../../runtime/javascript/guest/host.ts';
import { stringify } from './primordials.ts';
import { messageText, serialize } from './serialize.ts';

/** The host caps a line at 8 KB and an invocation at 1,000 lines; what is over is not even sent. */
const MAX_MESSAGE = 8_000;
const MAX_FIELDS = 6_000;

export type Level = 'debug' | 'info' | 'warn' | 'error';
export type LogFace = Record<Level, (message: unknown, fields?: unknown) => void>;

/** fields: JSON text of an object. Also what `console` writes through. */
export function logMessage(level: Level, message: string, fields?: string): void {
  const rest = fields === undefined ? '' : `,"fields":${fields}`;
  const shown = message.length > MAX_MESSAGE ? `${message.slice(0, MAX_MESSAGE)}…` : message;
  castHost('log', `{"level":"${level}","message":${stringify(shown)}${rest}}`);
}

export function createLog(): LogFace {
  const at =
    (level: Level) =>
    (message: unknown, fields?: unknown): void =>
      logMessage(level, messageText(message, MAX_MESSAGE), fieldsText(fields));
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** An object as it is; an error, or anything else, under a name. */
function fieldsText(fields: unknown): string | undefined {
  if (fields === undefined) return undefined;
  const named =
    fields instanceof Error
      ? { error: fields }
      : typeof fields === 'object' && fields !== null
        ? fields
        : { value: fields };
  const json = serialize(named, MAX_FIELDS);
  return json[0] === '{' ? json : `{"value":${json}}`;
}
