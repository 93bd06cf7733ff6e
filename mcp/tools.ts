/** The tools: what each takes, what it says of itself, and the call of the node that it is. */

import type { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import type { CallToolResult, ToolAnnotations } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';
import type { CallOptions, FunctionSummary, Invocation, PosternClient } from '../client/index.ts';
import type { Access } from './access.ts';
import { failed, succeeded } from './tool-result.ts';

/** Its schemas are made once: they cost more than a message over HTTP, which is a server of its own. */
export type Tool = (server: McpServer, client: PosternClient) => void;

const MB = 2 ** 20;
const LANGUAGES = ['javascript', 'typescript', 'python', 'assemblyscript'] as const;
const NAME = /^[a-z][a-z0-9_-]{0,62}$/;
/** Policies and lists of functions whose tools are kept. */
const MAX_KEPT = 200;

/** Those that the caller may use. */
export function toolsFor({ apiKey, isAdmin }: Access): readonly Tool[] {
  const tools = isAdmin
    ? [createFunction, invokeOf(apiKey?.functions), listFunctions, readLogs]
    : [invokeOf(apiKey?.functions)];
  const execute = apiKey?.policy == null ? undefined : executeBy(apiKey.policy.rules);
  return execute === undefined ? tools : [execute, ...tools];
}

interface ToolTexts<Input extends z.ZodObject> {
  readonly title: string;
  readonly description: string;
  readonly inputSchema: Input;
  readonly outputSchema?: z.ZodObject;
  readonly annotations: ToolAnnotations;
}

/** What `run` rejects with is told as a result. */
function tool<Input extends z.ZodObject>(
  name: string,
  texts: ToolTexts<Input>,
  run: (client: PosternClient, input: z.output<Input>, call: CallOptions) => Promise<CallToolResult>,
): Tool {
  return (server, client) => {
    server.registerTool(name, texts as ToolTexts<z.ZodObject>, async (input, { signal }) =>
      run(client, input as z.output<Input>, { signal }).catch(failed),
    );
  };
}

/** `make`, once for all that is given and says the same. */
function kept<Given, Made>(make: (given: Given) => Made): (given: Given) => Made {
  const made = new Map<string, Made>();
  return (given) => {
    const key = JSON.stringify(given) ?? '';
    const found = made.get(key);
    if (found !== undefined) return found;
    if (made.size >= MAX_KEPT) made.clear();
    const one = make(given);
    made.set(key, one);
    return one;
  };
}

/** As far as the tool's text and schema go by them; the node checks all. */
const rulesSchema = z.looseObject({
  languages: z.array(z.enum(LANGUAGES)).min(1),
  timeout: z.number(),
  memory: z.number(),
  http: z.looseObject({ allow: z.array(z.string()) }),
  env: z.array(z.string()),
  sessions: z.number(),
});

const reference = z.object({ id: z.string(), bytes: z.number(), url: z.string(), expires_at: z.string() });

/** Undefined for a policy without languages, which runs nothing. */
const executeBy = kept((given: Readonly<Record<string, unknown>>): Tool | undefined => {
  const parsed = rulesSchema.safeParse(given);
  return parsed.success ? executeCode(parsed.data) : undefined;
});

function executeCode({
  languages,
  timeout,
  memory,
  http: { allow },
  env,
  sessions,
}: z.infer<typeof rulesSchema>): Tool {
  const hosts = allow.length === 0 ? 'no network' : `network only to ${allow.join(', ')}`;
  const texts = {
    title: 'Execute code',
    description:
      'Runs code now, in a fresh sandbox, and gives its result: what a function named `handler` gives back, what the code ' +
      'returns at its top level, or the value of its last expression. `input` is a variable of that name. What it prints is ' +
      `in stdout and stderr. It has no files, no packages but its language's library, and ${hosts}. ` +
      (sessions === 0
        ? 'Nothing is kept: each run begins anew.'
        : 'A run begins anew, or in a session (not AssemblyScript) with the globals, functions and imports that its last run left.') +
      ' A result over 256 KB is null, with its size in result_ref: return less.',
    inputSchema: z.strictObject({
      code: z.string().min(1).describe('the source text'),
      language: z.enum(languages).default(languages[0]!),
      input: z.unknown().optional().describe('any JSON; null where absent'),
      timeout: z
        .string()
        .optional()
        .describe(`wall clock such as "5s", at most ${timeout / 1_000}s`),
      memory: z
        .string()
        .optional()
        .describe(`such as "64MB", at most ${Math.floor(memory / MB)}MB`),
      ...(allow.length === 0 ? {} : { hosts: z.array(z.string()).optional().describe('that it will reach') }),
      ...(env.length === 0
        ? {}
        : { env: z.array(z.enum(env)).optional().describe('variables that it will read with env(name)') }),
      ...(sessions === 0
        ? {}
        : { session: z.string().optional().describe('"new", or the token of the session that an answer gave') }),
    }),
    outputSchema: z.object({
      result: z.unknown(),
      result_ref: reference.optional(),
      stdout: z.string().describe('its first 64 KB'),
      stderr: z.string().describe('its first 64 KB'),
      duration_ms: z.number(),
      invocation_id: z.string(),
      session: z.object({ token: z.string(), run: z.number() }).optional(),
    }),
    annotations: {
      readOnlyHint: false,
      destructiveHint: false,
      idempotentHint: false,
      openWorldHint: allow.length > 0,
    },
  };
  return tool('execute_code', texts, async (client, { hosts, env: variables, session, ...request }, call) => {
    // Of the schema's own types, which its conditions hide.
    const rights = {
      http: hosts === undefined ? undefined : { allow: hosts as string[] },
      env: variables as string[] | undefined,
      session: session as string | undefined,
    };
    const answer = await client.execute({ ...request, ...rights }, call);
    const { result, result_ref, stdout, stderr, duration_ms, invocation_id, session: left } = answer;
    const told = {
      result,
      ...(result_ref === undefined ? {} : { result_ref }),
      stdout,
      stderr,
      duration_ms,
      invocation_id,
      ...(left === undefined ? {} : { session: left }),
    };
    return succeeded(told, told);
  });
}

const createFunction = tool(
  'create_function',
  {
    title: 'Create a function',
    description:
      'Deploys a function under a name, or a new version of the one that has it; it can be invoked at once. The code exports ' +
      '`handler(event)` (Python: `def handler(event)`), and what that gives back is the answer. For work that is done again, ' +
      'or when something happens; for a single computation execute_code is simpler, if it is offered.',
    inputSchema: z.strictObject({
      name: z.string().regex(NAME).describe('a-z, 0-9, _ and -; begins with a letter'),
      source: z.string().min(1).describe('the source text, all of it in one file'),
      language: z.enum(LANGUAGES).default('javascript'),
      auth: z
        .enum(['required', 'optional', 'none'])
        .default('required')
        .describe('who may call it over HTTP: callers with a token or an API key, or (none) everybody'),
      timeout: z.string().optional().describe('wall clock, such as "10s"'),
      memory: z.string().optional().describe('such as "128MB"'),
      config: z
        .record(z.string(), z.unknown())
        .optional()
        .describe(
          'further configuration, such as {"triggers": [{"type": "http"}, {"type": "schedule", "cron": "0 6 * * *"}], "http": {"allow": ["api.example.com"]}, "env": ["API_KEY"]}',
        ),
    }),
    outputSchema: z.object({
      name: z.string(),
      version: z.number(),
      created: z.boolean().describe('false where this very version was there already'),
      url: z.string(),
      warnings: z.array(z.string()),
    }),
    annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  },
  async (client, { config, ...request }, call) => {
    const { name, version, created, url, warnings } = await client.deploy({ ...config, ...request }, call);
    const told = { name, version, created, url: client.url + url, warnings };
    return succeeded(told, told);
  },
);

/** Of an API key: those that it is for, null for all. Undefined without one. */
const invokeOf = kept((names: readonly string[] | null | undefined) =>
  tool(
    'invoke_function',
    {
      title: 'Invoke a function',
      description: `Calls a deployed function with an event and gives what it answers.${
        names === undefined ? ' Without an API key it reaches only functions with auth none or optional.' : ''
      }`,
      inputSchema: z.strictObject({
        name: names == null ? z.string().regex(NAME) : z.enum(names),
        event: z.unknown().optional().describe('any JSON: the body of the call; null where absent'),
      }),
      annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: true },
    },
    async (client, { name, event }, call) => succeeded(spoken(await client.invoke(name, event, call))),
  ),
);

const listFunctions = tool(
  'list_functions',
  {
    title: 'List functions',
    description: 'What is deployed: names, versions, languages, who may call them, and what else fires them.',
    inputSchema: z.strictObject({}),
    annotations: { readOnlyHint: true, openWorldHint: false },
  },
  async (client, _input, call) => succeeded((await client.functions(call)).map(listed)),
);

const readLogs = tool(
  'read_logs',
  {
    title: 'Read logs',
    description:
      'The last invocations of a function, newest first: how each ended, its error, and what it logged. An invocation is there ' +
      'a moment after its end.',
    inputSchema: z.strictObject({
      name: z.string().regex(NAME),
      limit: z.int().min(1).max(100).default(10).describe('how many invocations'),
      status: z.enum(['ok', 'error']).optional().describe('only these'),
    }),
    annotations: { readOnlyHint: true, openWorldHint: false },
  },
  async (client, { name, ...filter }, call) => succeeded((await client.invocations(name, filter, call)).map(logged)),
);

/** Models read text: bytes are told by their length. */
function spoken(answer: unknown): unknown {
  return answer instanceof Uint8Array ? `(${answer.length} bytes that are no text)` : answer;
}

function listed({ name, version, config, problems, updated_at }: FunctionSummary) {
  const { language, auth, triggers } = config;
  return { name, version, language, auth, triggers, problems, updated_at };
}

function logged({ id, version, trigger, outcome, error, started_at, duration_ms, logs }: Invocation) {
  return {
    id,
    version,
    trigger,
    outcome,
    error,
    started_at,
    duration_ms,
    logs: logs.map(({ level, message, timestamp, fields }) => ({ level, message, timestamp, fields })),
  };
}
