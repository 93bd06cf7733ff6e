import { access, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { Command } from 'commander';
import { type CommandIo, examples, outputOf } from '../context.ts';
import { OperationError } from '../errors.ts';
import { shortPath } from '../function-files.ts';
import { packageVersion } from '../version.ts';

const TEMPLATES = new URL('../templates/', import.meta.url);
/** Template -> its place in the project. `gitignore` without its dot: npm renames the dotted one when it packs. */
const FILES: Readonly<Record<string, string>> = {
  'package.json.tmpl': 'package.json',
  'tsconfig.json.tmpl': 'tsconfig.json',
  'gitignore.tmpl': '.gitignore',
  'README.md.tmpl': 'README.md',
  'functions/hello.ts.tmpl': 'functions/hello.ts',
  'functions/welcome.ts.tmpl': 'functions/welcome.ts',
  'functions/schema.sql.tmpl': 'functions/schema.sql',
};

export function initCommand(io: CommandIo): Command {
  const command = new Command('init')
    .summary('make a new project')
    .description(
      'Makes a project with two functions that work: one over HTTP, one fired by rows. Files that are there already are kept.',
    )
    .argument('[dir]', 'folder of the project', '.')
    .option('--json', 'print one JSON value')
    .action(async (dir: string, options: { readonly json?: boolean }) => init(io, dir, options));
  return examples(command, ['postern init my-project', 'cd my-project && npm install && npx postern dev']);
}

async function init(io: CommandIo, dir: string, options: { readonly json?: boolean }): Promise<void> {
  const output = outputOf(io, options);
  const folder = resolve(dir);
  const written: string[] = [];
  const kept: string[] = [];
  await mkdir(folder, { recursive: true }).catch((cause: NodeJS.ErrnoException) => {
    throw new OperationError('NOT_WRITABLE', `${dir} can not be made (${cause.code ?? cause.message})`, { cause });
  });
  // Our functions would only be in the way of functions that are there.
  const hasFunctions = (await readdir(join(folder, 'functions')).catch(() => [])).length > 0;
  for (const [template, file] of Object.entries(FILES)) {
    const path = join(folder, file);
    if ((await exists(path)) || (hasFunctions && file.startsWith('functions/'))) {
      if (await exists(path)) kept.push(file);
      continue;
    }
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, await fill(template, basename(folder)), { flag: 'wx' });
    written.push(file);
  }
  const here = shortPath(folder);
  const next = [...(here === '.' ? [] : [`cd ${here}`]), 'npm install', 'npx postern dev'];
  output.result({ folder, written, kept, next }, [
    ...written.map((file) => `${output.style('green', 'wrote')} ${join(here, file)}`),
    ...kept.map((file) => `${output.style('dim', 'kept ')} ${join(here, file)}`),
    '',
    'Next:',
    ...next.map((line) => `  ${line}`),
  ]);
}

async function fill(template: string, folderName: string): Promise<string> {
  const text = await readFile(new URL(template, TEMPLATES), 'utf8');
  return text.replaceAll('{{name}}', packageName(folderName)).replaceAll('{{version}}', packageVersion());
}

/** npm allows lower case, digits and some marks. */
function packageName(folderName: string): string {
  const name = folderName
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .replace(/^[._-]+|-+$/g, '');
  return name === '' || name === 'postern' ? 'postern-project' : name;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
