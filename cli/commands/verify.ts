import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Command } from 'commander';
import { z } from 'zod';
import type { Verified, VerifiedChain } from '../../invoker/receipts/index.ts';
import { type CommandIo, examples, outputOf } from '../context.ts';
import { OperationError, UsageError } from '../errors.ts';
import { safeLine } from '../terminal-text.ts';

interface VerifyOptions {
  readonly keys?: string;
  readonly json?: boolean;
}

export function verifyCommand(io: CommandIo): Command {
  const command = new Command('verify')
    .summary('check receipts without a server')
    .description(
      'Checks what `postern receipts export` or `get` printed: that nothing was changed, removed or reordered since the node signed it.\nAsks no server. Exits 1 and names the first thing that is wrong.',
    )
    .argument('<file>', 'receipts; - for standard input')
    .option('--keys <file>', 'the keys that may have signed: a JWK set, as `postern receipts keys` prints it')
    .option('--json', 'print one JSON value')
    .action(async (file: string, options: VerifyOptions) => verify(io, file, options));
  return examples(command, [
    'postern verify chains.ndjson --keys keys.json',
    'postern receipts get 0190d3f2-7d5c-7000-8000-2f6a7c1b9d10 | postern verify - --keys keys.json',
  ]);
}

async function verify(io: CommandIo, file: string, options: VerifyOptions): Promise<void> {
  const output = outputOf(io, options);
  const keys = options.keys === undefined ? undefined : await readKeys(options.keys);
  const proven = await verifyLines(io, file, keys);
  if (proven.chains.length === 0 && proven.proofs.length === 0) {
    throw new OperationError('NO_RECEIPTS', `there is no receipt in ${file}`);
  }
  output.result(proven, linesOf(proven));
  if (keys === undefined) {
    output.note('no --keys were given: the lines belong together, but anybody may have made and signed them');
  }
}

async function verifyLines(
  io: CommandIo,
  file: string,
  keys: z.infer<typeof keySet>['keys'] | undefined,
): Promise<Verified> {
  const { ReceiptDefect, verifyReceipts } = await import('../../invoker/receipts/index.ts');
  const input = file === '-' ? io.stdin : createReadStream(file);
  try {
    return await verifyReceipts(linesIn(input), keys);
  } catch (error) {
    if (error instanceof ReceiptDefect) {
      const { message, problem, chain, seq } = error;
      throw new OperationError('RECEIPT_DEFECT', message, { details: { problem, chain, seq }, cause: error });
    }
    if (error instanceof OperationError) throw error;
    throw new UsageError(`the file ${file} can not be read (${(error as NodeJS.ErrnoException).code ?? error})`, {
      cause: error,
    });
  }
}

/** Only `\n` ends one: readline ends them at other characters too, which a receipt may have. */
async function* linesIn(input: NodeJS.ReadableStream): AsyncGenerator<string> {
  let rest = '';
  // What is no UTF-8 would be read as U+FFFD, which a receipt may have.
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const decode = (...given: Parameters<TextDecoder['decode']>): string => {
    try {
      return decoder.decode(...given);
    } catch (cause) {
      const details = { problem: 'unreadable' };
      throw new OperationError('RECEIPT_DEFECT', 'there are bytes that are no text in UTF-8', { details, cause });
    }
  };
  for await (const chunk of input) {
    const lines = (rest + decode(Buffer.from(chunk as Buffer), { stream: true })).split('\n');
    rest = lines.pop() as string;
    yield* lines;
  }
  rest += decode();
  if (rest !== '') yield rest;
}

const keySet = z.object({ keys: z.array(z.looseObject({ kid: z.string(), x: z.string() })) });

async function readKeys(file: string): Promise<z.infer<typeof keySet>['keys']> {
  try {
    return keySet.parse(JSON.parse(await readFile(file, 'utf8'))).keys;
  } catch (cause) {
    throw new UsageError(
      `there are no keys in ${file}: it has to be a JWK set, as \`postern receipts keys\` prints it`,
      {
        cause,
      },
    );
  }
}

function linesOf({ chains, proofs }: Verified): string[] {
  return [
    ...chains.flatMap(linesOfChain),
    ...proofs.map(
      ({ invocation, chain, seq, at, key }) =>
        `proven: receipt ${seq} of chain ${safeLine(chain)}, ${invocation === '' ? '' : `of invocation ${safeLine(invocation)}, `}made ${safeLine(at)}, signed by ${key}`,
    ),
  ];
}

function linesOfChain({
  chain,
  first,
  last,
  receipts,
  signatures,
  dropped,
  from,
  to,
  closed,
  keys,
}: VerifiedChain): string[] {
  const notes = [
    ...(first === 0
      ? []
      : [`begins with receipt ${first}: those before were removed by their age, or are not in this file`]),
    ...(dropped === 0 ? [] : [`${dropped} more were given up by the node, which could not write them, and says so`]),
    closed ? 'ends with the stop of the node' : `receipt ${last} need not be the last: nothing here ends the chain`,
  ];
  return [
    `proven: chain ${safeLine(chain)}, ${receipts} receipts, ${first} to ${last}, ${safeLine(from)} to ${safeLine(to)}`,
    `  ${signatures} signatures by ${keys.join(', ')}`,
    ...notes.map((note) => `  ${note}`),
  ];
}
