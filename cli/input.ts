/** Data that a command is given: inline, from a file, or on standard input. */

import { readFile } from 'node:fs/promises';
import { UsageError } from './errors.ts';

export async function readAll(stream: NodeJS.ReadableStream): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString('utf8');
}

/** `-` is standard input, `@path` a file, anything else the data itself. */
export async function readData(given: string, stdin: NodeJS.ReadableStream): Promise<string> {
  if (given === '-') return readAll(stdin);
  if (!given.startsWith('@')) return given;
  const path = given.slice(1);
  return readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new UsageError(`the file ${path} can not be read (${cause.code ?? cause.message})`, { cause });
  });
}
