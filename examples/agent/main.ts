/**
 * An agent that writes functions and runs them on a node, where they can do no harm:
 *
 *   MODEL_URL=http://127.0.0.1:11434/v1 MODEL=qwen3 node examples/agent/main.ts "the 20th Fibonacci number"
 *
 * POSTERN_URL is the node (`npm start` makes one), POSTERN_ADMIN_KEY and POSTERN_TOKEN what it wants. With POSTERN_API_KEY,
 * of a key that has a policy, it executes code too; with POSTERN_FUNCTION_ID it only invokes that function.
 */

import { runAgent } from './agent.ts';
import { chatCompletions } from './model.ts';
import { toolsOf } from './tools.ts';

const { env } = process;
const task = process.argv.slice(2).join(' ');
if (env.MODEL_URL === undefined || env.MODEL === undefined || task === '') {
  console.error('usage: MODEL_URL=… MODEL=… node examples/agent/main.ts <task>');
  process.exit(2);
}
const tools = toolsOf({
  url: env.POSTERN_URL ?? 'http://127.0.0.1:8787',
  adminKey: env.POSTERN_ADMIN_KEY,
  token: env.POSTERN_TOKEN,
  apiKey: env.POSTERN_API_KEY,
  functionId: env.POSTERN_FUNCTION_ID,
});
const model = chatCompletions({ url: env.MODEL_URL, model: env.MODEL, key: env.MODEL_KEY });
try {
  console.log(await runAgent(model, tools, task));
} catch (error) {
  console.error(`failed: ${(error as Error).message}`);
  process.exitCode = 1;
}
