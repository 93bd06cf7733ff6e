import { defineGlobal, defineTag } from './define.ts';
import { part } from './parts.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type Log = (level: LogLevel, message: string, fields?: string) => void;

/** What the rarer methods share; they live in the part `inspect`. */
export interface ConsoleState {
  readonly write: (level: LogLevel, message: string) => void;
  indent: string;
}

const LEVELS = { debug: 'debug', log: 'info', info: 'info', warn: 'warn', error: 'error' } as const;
const RARE = [
  'assert',
  'clear',
  'count',
  'countReset',
  'dir',
  'dirxml',
  'group',
  'groupCollapsed',
  'groupEnd',
  'table',
  'time',
  'timeEnd',
  'timeLog',
  'trace',
] as const;

/** Strings alone are joined here; all else is the part's. */
function format(args: unknown[]): string {
  const [first] = args;
  if (typeof first === 'string' && (args.length === 1 || !first.includes('%'))) {
    if (args.every((one) => typeof one === 'string')) return args.join(' ');
  }
  return part('inspect').format(args);
}

export function installConsole(log: Log): void {
  const state: ConsoleState = {
    write(level, message) {
      const { indent } = state;
      log(level, indent === '' ? message : indent + message.replaceAll('\n', `\n${indent}`));
    },
    indent: '',
  };
  const methods: Record<string, (...args: unknown[]) => void> = {};
  for (const [name, level] of Object.entries(LEVELS)) {
    Object.assign(methods, {
      [name](...args: unknown[]): void {
        state.write(level, format(args));
      },
    });
  }
  for (const name of RARE) {
    Object.assign(methods, {
      [name](...args: unknown[]): void {
        part('inspect').console(state, name, args);
      },
    });
  }
  defineTag(methods, 'console');
  defineGlobal('console', methods);
}
