import { Command } from 'commander';
import { type CommandIo, clientOf, examples, outputOf, type RemoteOptions, remote } from '../context.ts';
import type { Deployment } from '../control-client.ts';
import { deployRequest } from '../deploy-request.ts';
import { describeError, OperationError, UsageError } from '../errors.ts';
import { type FunctionFile, functionsAt, shortPath } from '../function-files.ts';
import { safeLine } from '../terminal-text.ts';

type DeployOptions = RemoteOptions & { readonly name?: string };

export function deployCommand(io: CommandIo): Command {
  const command = new Command('deploy')
    .alias('upload')
    .summary('deploy functions')
    .description(
      'Bundles functions, npm packages included, and deploys them. Each deploy is atomic: one that fails leaves the version before.',
    )
    .argument('[paths...]', 'function files, manifests, or folders of them', ['functions'])
    .option('--name <name>', 'name of the function, for a single one')
    .action(async (paths: string[], options: DeployOptions) => deploy(io, paths, options));
  return examples(remote(command), [
    'postern deploy',
    'postern deploy functions/hello.ts functions/mail',
    'postern upload hello.jsonc',
    'postern deploy hello.ts --name greeting --url https://postern.example.com',
  ]);
}

async function deploy(io: CommandIo, paths: readonly string[], options: DeployOptions): Promise<void> {
  const output = outputOf(io, options);
  const client = clientOf(io, options);
  const files = (await Promise.all(paths.map(functionsAt))).flat();
  if (options.name !== undefined && files.length !== 1) {
    throw new UsageError(
      `--name is for a single function; ${files.length} were given: ${files.map(({ path }) => shortPath(path)).join(', ')}`,
    );
  }
  const done: Deployment[] = [];
  const failed: { file: FunctionFile; error: unknown }[] = [];
  for (const [index, file] of files.entries()) {
    output.progress(`deploying ${file.name} (${index + 1} of ${files.length})`);
    try {
      const { body, warnings } = await deployRequest(file);
      const deployment = await client.deploy(options.name === undefined ? body : { ...body, name: options.name });
      done.push(deployment);
      for (const warning of [...warnings, ...deployment.warnings]) output.note(`warning: ${safeLine(warning)}`);
      output.lines([`${output.style('green', 'deployed')} ${safeLine(deploymentLine(deployment, client.url))}`]);
    } catch (error) {
      if (error instanceof OperationError && error.code === 'UNREACHABLE') throw error;
      failed.push({ file, error });
      if (files.length > 1 && !output.json) output.note(`${shortPath(file.path)}: ${describeError(error).message}`);
    }
  }
  const [first] = failed;
  if (first !== undefined && files.length === 1) throw first.error;
  if (output.json) {
    const errors = failed.map(({ file, error }) => ({ file: shortPath(file.path), ...describeError(error) }));
    output.jsonLine({ deployed: done, ...(errors.length === 0 ? {} : { failed: errors }) });
  }
  if (first !== undefined) {
    throw new OperationError(
      'DEPLOY_FAILED',
      `${failed.length} of ${files.length} functions could not be deployed: ${failed.map(({ file }) => file.name).join(', ')}`,
    );
  }
}

export function deploymentLine({ name, version, created, url }: Deployment, server: string): string {
  return `${name} v${version}${created ? '' : ' (was there already)'}${url === undefined ? '' : `  ${new URL(url, server).href}`}`;
}
