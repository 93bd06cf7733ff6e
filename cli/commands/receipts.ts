import { Command } from 'commander';
import { type CommandIo, clientOf, examples, outputOf, parseSeq, type RemoteOptions, remote } from '../context.ts';
import type { ControlClient } from '../control-client.ts';
import type { Output } from '../output.ts';
import { table } from '../output.ts';
import { safeText } from '../terminal-text.ts';

type ExportOptions = RemoteOptions & { readonly chain?: string; readonly from?: number };

export function receiptsCommand(io: CommandIo): Command {
  return examples(
    new Command('receipts')
      .summary('what ran, in hashes and signed; see also `postern verify`')
      .description(
        'Every invocation leaves a receipt: hashes of its code, configuration, input, output and host calls, its limits and what it used.\nThe receipts of a node form a chain, from its start to its stop.',
      )
      .addCommand(exportCommand(io))
      .addCommand(getCommand(io))
      .addCommand(listReceiptsCommand(io))
      .addCommand(keysOfReceiptsCommand(io)),
    [
      'postern receipts export > chains.ndjson',
      'postern receipts keys > keys.json',
      'postern verify chains.ndjson --keys keys.json',
    ],
  );
}

function exportCommand(io: CommandIo): Command {
  const command = new Command('export')
    .summary('print receipts and their checkpoints, a line each')
    .description('Prints all chains that the server keeps, or one, as `postern verify` takes them.')
    .option('--chain <id>', 'one chain')
    .option('--from <seq>', 'of that chain, from about this receipt on', parseSeq)
    .action(async (options: ExportOptions) => {
      const client = clientOf(io, options);
      const output = outputOf(io, options);
      const chains =
        options.chain === undefined
          ? (await client.receiptChains()).map(({ chain }) => chain).toReversed()
          : [options.chain];
      for (const chain of chains) await exportChain(client, output, chain, options.from ?? 0);
    });
  return examples(remote(command), [
    'postern receipts export > chains.ndjson',
    'postern receipts export --chain 7b0c9c1e-5a51-4d8e-9f0e-3f1d6a2b4c5d > chain.ndjson',
  ]);
}

async function exportChain(client: ControlClient, output: Output, chain: string, from: number): Promise<void> {
  for (let next: number | null = from; next !== null; ) {
    const page = await client.receipts(chain, next);
    print(output, page.lines);
    next = page.next;
  }
}

function getCommand(io: CommandIo): Command {
  const command = new Command('get')
    .summary('print the receipt of an invocation')
    .description(
      'Prints one line: the receipt, the checkpoint that covers it, and the hashes that lead from one to the other.',
    )
    .argument('<invocation>', 'id of an invocation')
    .action(async (id: string, options: RemoteOptions) => {
      print(outputOf(io, options), await clientOf(io, options).receipt(id));
    });
  return examples(remote(command), [
    'postern receipts get 0190d3f2-7d5c-7000-8000-2f6a7c1b9d10 > receipt.json',
    'postern verify receipt.json --keys keys.json',
  ]);
}

function listReceiptsCommand(io: CommandIo): Command {
  const command = new Command('list')
    .alias('ls')
    .summary('list chains')
    .description('Lists the chains of which receipts are kept, newest first: one for each start of a node.')
    .action(async (options: RemoteOptions) => {
      const chains = await clientOf(io, options).receiptChains();
      const rows = chains.map(({ chain, first, last, from, to }) => [chain, String(first), String(last), from, to]);
      outputOf(io, options).result(
        chains,
        rows.length === 0 ? 'there are no receipts yet' : table(['CHAIN', 'FIRST', 'LAST', 'FROM', 'TO'], rows),
      );
    });
  return examples(remote(command), ['postern receipts list']);
}

function keysOfReceiptsCommand(io: CommandIo): Command {
  const command = new Command('keys')
    .summary('print the public keys that receipts are signed with')
    .description(
      'Prints a JWK set. Keep it where who can change the database can not: it is what `postern verify` trusts.',
    )
    .action(async (options: RemoteOptions) => {
      const keys = await clientOf(io, options).signingKeys();
      const output = outputOf(io, options);
      if (output.json) output.jsonLine(keys);
      else print(output, `${JSON.stringify(keys, null, 2)}\n`);
    });
  return examples(remote(command), ['postern receipts keys > keys.json']);
}

/** Byte for byte, since that is what was signed. What a server says must not act on a terminal. */
function print(output: Output, lines: string): void {
  output.raw(output.isTerminal ? safeText(lines) : lines);
}
