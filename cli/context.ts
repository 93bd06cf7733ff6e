/** What every command gets: where it speaks, what the environment says, and how it is told to stop. */

import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError } from 'commander';
import { ControlClient } from './control-client.ts';
import { UsageError } from './errors.ts';
import { Output, type Stream } from './output.ts';

export const DEFAULT_URL = 'http://127.0.0.1:8787';
export const DEFAULT_PORT = 8787;
export const DEFAULT_HOST = '127.0.0.1';
export const DEFAULT_DATA_DIR = '.postern';

export interface CommandIo {
  readonly stdout: Stream;
  readonly stderr: Stream;
  readonly stdin: NodeJS.ReadableStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborted at the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
}

export type RemoteOptions = { readonly url?: string; readonly adminKeyFile?: string; readonly json?: boolean };

export function outputOf(io: CommandIo, options: { readonly json?: boolean }): Output {
  return new Output({ stdout: io.stdout, stderr: io.stderr, env: io.env, json: options.json === true });
}

export function clientOf(io: CommandIo, options: RemoteOptions): ControlClient {
  return new ControlClient({
    url: serverOf(io, options.url),
    adminKey: adminKeyOf(io, options.adminKeyFile),
  });
}

export function serverOf(io: CommandIo, url: string | undefined): string {
  return url ?? setting(io, 'POSTERN_URL') ?? DEFAULT_URL;
}

/**
 * From a file or the environment, never from a flag: the command line of a process is there for everyone on the machine
 * to read. Where the server's own list of keys stands there, the first of them.
 */
export function adminKeyOf(io: CommandIo, file?: string): string | undefined {
  const keys = file === undefined ? setting(io, 'POSTERN_ADMIN_KEY') : readKeyFile(file, 'admin key');
  const [first] = keys?.split(',', 1) ?? [];
  return first?.trim().replace(/^[A-Za-z][A-Za-z0-9_-]{0,31}=(?=[^=])/, '');
}

/** As the admin key: from a file or the environment. */
export function apiKeyOf(io: CommandIo, file?: string): string | undefined {
  return file === undefined ? setting(io, 'POSTERN_API_KEY') : readKeyFile(file, 'API key');
}

function readKeyFile(file: string, what: string): string {
  try {
    const key = readFileSync(file, 'utf8').trim();
    if (key !== '') return key;
  } catch (cause) {
    throw new UsageError(`the ${what} can't be read from ${file}: ${(cause as Error).message}`, { cause });
  }
  throw new UsageError(`there is no ${what} in ${file}`);
}

/** An environment variable; one that is set to nothing is not set. */
export function setting(io: CommandIo, name: string): string | undefined {
  const value = io.env[name];
  return value === undefined || value === '' ? undefined : value;
}

/** `--url`, `--admin-key-file` and `--json`, for the commands that talk to a server. */
export function remote(command: Command): Command {
  return administered(servedBy(command)).option('--json', 'print one JSON value');
}

/** `--url` and `--api-key-file`, for those that act for a caller. */
export function asCaller(command: Command): Command {
  return servedBy(command).option('--api-key-file <path>', 'file with an API key (else POSTERN_API_KEY)');
}

export function administered(command: Command): Command {
  return command.option(
    '--admin-key-file <path>',
    'file with the key of its control API (else POSTERN_ADMIN_KEY; `dev` needs none)',
  );
}

function servedBy(command: Command): Command {
  return command.option('--url <url>', `server to talk to (POSTERN_URL, else ${DEFAULT_URL})`, parseUrl);
}

export function examples(command: Command, lines: readonly string[]): Command {
  return command.addHelpText('after', `\nExamples:\n${lines.map((line) => `  $ ${line}`).join('\n')}\n`);
}

export function parseUrl(text: string): string {
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return text;
  throw new InvalidArgumentError(`Give an http or https URL, such as ${DEFAULT_URL}.`);
}

export function parsePort(text: string): number {
  return parseWhole(text, 0, 65_535, 'a port from 0 (a free one) to 65535');
}

export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => parseWhole(text, min, max, `a whole number from ${min} to ${max}`);
}

/** Of a receipt in its chain. */
export function parseSeq(text: string): number {
  return parseWhole(text, 0, 999_999_999, 'the seq of a receipt');
}

function parseWhole(text: string, min: number, max: number, allowed: string): number {
  const value = Number(text);
  if (/^\d{1,9}$/.test(text) && value >= min && value <= max) return value;
  throw new InvalidArgumentError(`Give ${allowed}.`);
}
