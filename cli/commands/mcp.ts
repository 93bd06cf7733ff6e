import type { Readable, Writable } from 'node:stream';
import { Command } from 'commander';
import { PosternClient, PosternClientError } from '../../client/index.ts';
import { administered, adminKeyOf, apiKeyOf, asCaller, type CommandIo, examples, serverOf } from '../context.ts';
import { OperationError } from '../errors.ts';
import { packageVersion } from '../version.ts';

interface McpOptions {
  readonly url?: string;
  readonly apiKeyFile?: string;
  readonly adminKeyFile?: string;
}

/** Beyond the longest timeout of a function. */
const CALL_TIMEOUT_MS = 310_000;

export function mcpCommand(io: CommandIo): Command {
  const command = new Command('mcp')
    .summary('let an AI assistant use a server (MCP over standard input and output)')
    .description(
      'Speaks the Model Context Protocol on standard input and output until the input ends. Offers what the keys allow: an API\nkey with a policy to execute code, an API key to invoke functions, the admin key to create functions, list them and read logs.',
    )
    .action(async (options: McpOptions) => mcp(io, options));
  return examples(administered(asCaller(command)), [
    'POSTERN_API_KEY=pstn_… postern mcp',
    'postern mcp --url https://fn.example.com --api-key-file assistant.key',
  ]);
}

async function mcp(io: CommandIo, options: McpOptions): Promise<void> {
  const apiKey = apiKeyOf(io, options.apiKeyFile);
  const adminKey = adminKeyOf(io, options.adminKeyFile);
  const client = new PosternClient({ url: serverOf(io, options.url), apiKey, adminKey, timeoutMs: CALL_TIMEOUT_MS });
  const { askAccess, serveStdio } = await import('../../mcp/index.ts');
  const access = await askAccess(client, { apiKey: apiKey !== undefined, adminKey: adminKey !== undefined }).catch(
    (error: unknown) => {
      if (!(error instanceof PosternClientError)) throw error;
      throw new OperationError(error.code, error.message, { cause: error });
    },
  );
  // `CommandIo` says of streams what the other commands need; these are the process's.
  const { stdin, stdout } = io as unknown as { readonly stdin: Readable; readonly stdout: Writable };
  await serveStdio({ client, access, version: packageVersion() }, { stdin, stdout, signal: io.signal });
}
