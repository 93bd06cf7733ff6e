/** What the agent can do on a Postern node: execute code, create a function, invoke one. What goes wrong is told to the model, to mend it. */

// In a project of yours: from 'postern/client'.
import { PosternClient } from '../../client/index.ts';

export interface Tool {
  readonly name: string;
  readonly description: string;
  /** JSON Schema of the input. */
  readonly parameters: Readonly<Record<string, unknown>>;
  run(input: Readonly<Record<string, unknown>>): Promise<string>;
}

export interface Node {
  readonly url: string;
  /** For `create_function`; a `dev` node on this machine needs none. */
  readonly adminKey?: string | undefined;
  /** For `invoke_function`. Without one the functions that are created answer everybody. */
  readonly token?: string | undefined;
  /** For `execute_code`, which is not there without one: of a key that has a policy. */
  readonly apiKey?: string | undefined;
  /** A function that is there: the agent invokes it, and creates none. */
  readonly functionId?: string | undefined;
}

export function toolsOf(node: Node): readonly Tool[] {
  if (node.functionId !== undefined) return [invokeFunction(node)];
  const tools = [createFunction(node), invokeFunction(node)];
  return node.apiKey === undefined ? tools : [executeCode(node), ...tools];
}

const text = (description: string) => ({ type: 'string', description });

function executeCode({ url, apiKey }: Node): Tool {
  const postern = new PosternClient({ url, apiKey });
  return {
    name: 'execute_code',
    description: 'Runs JavaScript once and gives the value of its last expression. It has no files and no network.',
    parameters: {
      type: 'object',
      properties: { code: text('any script; `input` is there'), input: { description: 'any JSON' } },
      required: ['code'],
    },
    run: async ({ code, input }) => JSON.stringify((await postern.execute({ code: String(code), input })).result),
  };
}

function createFunction(node: Node): Tool {
  return {
    name: 'create_function',
    description: 'Creates a JavaScript function, or replaces it. It has no files and no network.',
    parameters: {
      type: 'object',
      properties: {
        id: text('lower-case letters, digits, - and _'),
        source: text('function handler(event) { return …; }'),
      },
      required: ['id', 'source'],
    },
    run: ({ id, source }) =>
      post(node.url, '/functions', node.adminKey, {
        id,
        languageId: 'js',
        source,
        auth: node.token === undefined ? 'none' : 'required',
        timeout: '5s',
      }),
  };
}

function invokeFunction(node: Node): Tool {
  const { functionId } = node;
  return {
    name: 'invoke_function',
    description: functionId === undefined ? 'Invokes a function.' : `Invokes the function ${functionId}.`,
    parameters: {
      type: 'object',
      properties: { ...(functionId === undefined ? { id: text('its id') } : {}), event: { description: 'any JSON' } },
      required: [...(functionId === undefined ? ['id'] : []), 'event'],
    },
    run: ({ id, event = null }) =>
      post(node.url, `/invoke/${encodeURIComponent(functionId ?? String(id))}`, node.token, event),
  };
}

async function post(url: string, path: string, bearer: string | undefined, body: unknown): Promise<string> {
  const response = await fetch(url + path, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
    },
    body: JSON.stringify(body),
  });
  const answer = await response.text();
  return response.ok ? answer : `failed with ${response.status}: ${answer}`;
}
