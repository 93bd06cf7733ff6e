/** Postern for assistants: an MCP server for one caller, and the two ways to it. */

import type { Readable, Writable } from 'node:stream';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js';
import { AjvJsonSchemaValidator } from '@modelcontextprotocol/sdk/validation/ajv';
import type { PosternClient } from '../client/index.ts';
import type { Access } from './access.ts';
import { toolsFor } from './tools.ts';

export interface Caller {
  /** With the caller's keys. */
  readonly client: PosternClient;
  readonly access: Access;
  /** Of Postern. */
  readonly version: string;
}

/** For all servers: each would make its own, in a millisecond and a half. */
const jsonSchemaValidator = new AjvJsonSchemaValidator();

function createMcpServer({ client, access, version }: Caller): McpServer {
  const server = new McpServer({ name: 'postern', title: 'Postern', version }, { jsonSchemaValidator });
  for (const register of toolsFor(access)) register(server, client);
  return server;
}

export interface StdioStreams {
  readonly stdin: Readable;
  readonly stdout: Writable;
  /** Aborted to end it. */
  readonly signal: AbortSignal;
}

/** Resolves when the input has ended. */
export async function serveStdio(caller: Caller, { stdin, stdout, signal }: StdioStreams): Promise<void> {
  const server = createMcpServer(caller);
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  server.server.onclose = resolve;
  const close = (): void => void server.close();
  stdin.once('end', close);
  signal.addEventListener('abort', close, { once: true });
  await server.connect(new StdioServerTransport(stdin, stdout));
  await closed;
}

export interface HttpMessage {
  readonly headers: Headers;
  /** One JSON-RPC message, parsed. */
  readonly body: unknown;
  /** Aborted when the caller goes away: what the tool does is canceled. */
  readonly gone: AbortSignal;
}

/**
 * Answers one message of the streamable HTTP transport, without a session: whatever node it comes to knows all that it needs
 * from the message and the caller's keys. Rejects where the caller goes away.
 */
export async function answerHttp(caller: Caller, { headers, body, gone }: HttpMessage): Promise<Response> {
  const server = createMcpServer(caller);
  const transport = new WebStandardStreamableHTTPServerTransport({ enableJsonResponse: true });
  const { promise: left, reject } = Promise.withResolvers<never>();
  gone.addEventListener('abort', () => reject(gone.reason), { once: true });
  try {
    await server.connect(transport);
    const request = new Request('http://node/mcp', { method: 'POST', headers });
    return await Promise.race([transport.handleRequest(request, { parsedBody: body }), left]);
  } finally {
    await server.close();
  }
}
