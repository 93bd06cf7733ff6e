/**
 * Compilations of hostile sources, each in a process that is thrown away: it has a time, bounded memory and no rights, so what
 * a source does to its compiler costs that compilation only. Few run at once: each may take a core, and memory.
 */

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { type ErrorRecord, PosternError } from '../errors.ts';
import { ANSWER } from './answer.ts';
import { compilerCommand } from './compiler-command.ts';
import { type CompilerKind, foldersOf } from './compilers.ts';

const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;
const MAX_LAST_WORDS = 2_000;
/** Of a process: a heap, a memory of WebAssembly, each as large as it may be, and 0.7 GB that Node has in any case. */
const MAX_DATA_GB = 3;

const MAX_AT_ONCE = 2;

let running = 0;
const waiting: (() => void)[] = [];

/**
 * The compiler's output; its input is `pieces`, one after the other: megabytes need not be copied into one. Throws what it throws; INVALID_FUNCTION where it takes longer than `timeoutMs`, counted from its
 * start, or dies of its input or for want of memory.
 */
export async function runCompiler(
  kind: CompilerKind,
  pieces: readonly Uint8Array[],
  timeoutMs: number,
): Promise<Uint8Array> {
  if (running >= MAX_AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
  else running++;
  try {
    return await compileNow(kind, pieces, timeoutMs);
  } finally {
    const next = waiting.shift();
    if (next === undefined) running--;
    else next();
  }
}

async function compileNow(kind: CompilerKind, pieces: readonly Uint8Array[], timeoutMs: number): Promise<Uint8Array> {
  const [program, ...args] = withLimits([...compilerCommand(foldersOf(kind)), kind], timeoutMs);
  const child = spawn(program, args, { env: {}, cwd: '/', stdio: 'pipe' });
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    child.kill('SIGKILL');
  }, timeoutMs);
  try {
    const { answer, lastWords } = await exchange(child, pieces);
    if (isLate) throw refused(`the source can not be compiled within ${timeoutMs / 1000} s`);
    return outputOf(answer, lastWords);
  } finally {
    clearTimeout(timer);
    child.kill('SIGKILL');
  }
}

/**
 * Of time, so that a process whose parent was killed ends too: busy compiling, it would not see that. All of its threads count,
 * so the limit is some times the time that it has. Of memory, since V8's own limits know nothing of buffers, and of several
 * memories. Not every system bounds data (macOS does not).
 */
function withLimits(command: [string, ...string[]], timeoutMs: number): [string, ...string[]] {
  if (process.platform === 'win32') return command;
  const seconds = Math.ceil((4 * timeoutMs) / 1000);
  const script = 'ulimit -t "$0"; ulimit -d "$1"; shift; exec "$@"';
  return ['/bin/sh', '-c', script, String(seconds), String(MAX_DATA_GB * 2 ** 20), ...command];
}

function exchange(
  child: ChildProcessWithoutNullStreams,
  input: readonly Uint8Array[],
): Promise<{ answer: Buffer; lastWords: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ answer: Buffer; lastWords: string }>();
  const pieces: Buffer[] = [];
  let length = 0;
  let lastWords = '';
  child.stdout.on('data', (piece: Buffer) => {
    length += piece.length;
    if (length > MAX_OUTPUT_BYTES) child.kill('SIGKILL');
    else pieces.push(piece);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    lastWords = (lastWords + text).slice(-MAX_LAST_WORDS);
  });
  // It may be gone before it has read all of its input.
  child.stdin.on('error', () => {});
  child.on('error', reject);
  child.on('close', (code) => {
    if (length > MAX_OUTPUT_BYTES) reject(refused(`what the source compiles to is over ${MAX_OUTPUT_BYTES >> 20} MB`));
    else resolve({ answer: code === 0 ? Buffer.concat(pieces) : Buffer.alloc(0), lastWords });
  });
  for (const piece of input) child.stdin.write(piece);
  child.stdin.end();
  return promise;
}

function outputOf(answer: Buffer, lastWords: string): Uint8Array {
  const content = answer.subarray(1);
  if (answer[0] === ANSWER.output) return content;
  if (answer[0] !== ANSWER.error) {
    const cause = new Error(`the compiler's process ended: ${lastWords}`);
    const what = `it is too complex, or needs more than the ${MAX_DATA_GB} GB of memory that a compiler has`;
    throw refused(`the source can not be compiled: ${what}`, cause);
  }
  throw PosternError.fromRecord(recordOf(content));
}

/** The process that wrote it read a hostile source. */
function recordOf(content: Buffer): ErrorRecord {
  const record = JSON.parse(content.toString()) as Partial<ErrorRecord>;
  const details = typeof record.details === 'object' && record.details !== null ? { details: record.details } : {};
  const code = record.code === 'INVALID_FUNCTION' ? record.code : 'INTERNAL_ERROR';
  return { code, message: String(record.message), ...details };
}

function refused(message: string, cause?: Error): PosternError {
  return new PosternError('INVALID_FUNCTION', message, { cause });
}
