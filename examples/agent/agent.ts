/** A model that works with tools until it has an answer. */

import type { Message, Model, ToolCall } from './model.ts';
import type { Tool } from './tools.ts';

const INSTRUCTIONS = 'Solve the task with code: run it with the tools, and answer with what it returned.';
const MAX_TURNS = 10;

export async function runAgent(model: Model, tools: readonly Tool[], task: string): Promise<string> {
  const messages: Message[] = [
    { role: 'system', content: INSTRUCTIONS },
    { role: 'user', content: task },
  ];
  for (let turn = 0; turn < MAX_TURNS; turn++) {
    const reply = await model(messages, tools);
    messages.push(reply);
    if (reply.tool_calls === undefined || reply.tool_calls.length === 0) return reply.content ?? '';
    for (const call of reply.tool_calls) {
      messages.push({ role: 'tool', tool_call_id: call.id, content: await runTool(tools, call) });
    }
  }
  throw new Error(`the model had no answer after ${MAX_TURNS} turns`);
}

async function runTool(tools: readonly Tool[], { function: { name, arguments: input } }: ToolCall): Promise<string> {
  const tool = tools.find((one) => one.name === name);
  if (tool === undefined) return `there is no tool ${name}`;
  try {
    return await tool.run(JSON.parse(input));
  } catch (error) {
    return `failed: ${(error as Error).message}`;
  }
}
