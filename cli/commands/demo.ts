import { Command } from 'commander';
import { type CommandIo, examples, outputOf } from '../context.ts';
import { duration } from '../invocation-text.ts';

const SOURCE = 'function handler(event) { return { message: "Hello, " + event.name + "!" }; }';
const EVENT = { name: 'World' };

/** What `postern` without arguments does. */
export function demoCommand(io: CommandIo): Command {
  const command = new Command('demo')
    .summary('run a function, here and now')
    .description('Runs a function in a sandbox, without server or database, and prints its result.')
    .option('--json', 'print one JSON value')
    .action(async (options: { readonly json?: boolean }) => demo(io, options));
  return examples(command, ['postern', 'postern demo']);
}

async function demo(io: CommandIo, options: { readonly json?: boolean }): Promise<void> {
  const output = outputOf(io, options);
  const { createRuntime } = await import('../../embed/index.ts');
  output.progress('starting an executor');
  await using runtime = await createRuntime({ executors: 1 });
  const { value, usage } = await runtime.invoke({ language: 'javascript', source: SOURCE, event: EVENT });
  output.progressDone();
  output.note(`${SOURCE}\nhandler(${JSON.stringify(EVENT)}) in a WebAssembly sandbox, ${duration(usage.durationMs)}:`);
  output.result(value, JSON.stringify(value));
  output.note('Begin with `postern init my-project`; `postern --help` has every command.');
}
