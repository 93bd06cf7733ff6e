/** A model behind the chat completions API, which most providers and local servers speak. */

import type { Tool } from './tools.ts';

export interface ToolCall {
  readonly id: string;
  readonly type: 'function';
  /** `arguments` is JSON text, as the model wrote it. */
  readonly function: { readonly name: string; readonly arguments: string };
}

export type Message =
  | { readonly role: 'system' | 'user'; readonly content: string }
  | { readonly role: 'assistant'; readonly content: string | null; readonly tool_calls?: readonly ToolCall[] }
  | { readonly role: 'tool'; readonly tool_call_id: string; readonly content: string };

export type Reply = Extract<Message, { role: 'assistant' }>;
export type Model = (messages: readonly Message[], tools: readonly Tool[]) => Promise<Reply>;

export function chatCompletions(options: { url: string; model: string; key?: string | undefined }): Model {
  return async (messages, tools) => {
    const response = await fetch(`${options.url}/chat/completions`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(options.key === undefined ? {} : { authorization: `Bearer ${options.key}` }),
      },
      body: JSON.stringify({
        model: options.model,
        messages,
        tools: tools.map(({ name, description, parameters }) => ({
          type: 'function',
          function: { name, description, parameters },
        })),
      }),
    }).catch((cause: unknown) => {
      throw new Error(`the model can not be reached at ${options.url}`, { cause });
    });
    if (!response.ok) throw new Error(`the model answered ${response.status}: ${await response.text()}`);
    const { choices } = (await response.json()) as { choices: { message: Reply }[] };
    const [first] = choices;
    if (first === undefined) throw new Error('the model had nothing to say');
    return first.message;
  };
}
