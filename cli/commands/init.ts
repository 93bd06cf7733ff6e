import { access, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { Command, Option } from 'commander';
import { type CommandIo, examples, outputOf } from '../context.ts';
import { OperationError } from '../errors.ts';
import { shortPath } from '../function-files.ts';
import { DEFAULT_LANGUAGE, OFFERED_LANGUAGES, PROJECTS, type ProjectLanguage } from '../project-templates.ts';
import { packageVersion } from '../version.ts';

const TEMPLATES = new URL('../templates/', import.meta.url);

type InitOptions = { readonly language: ProjectLanguage; readonly json?: boolean };

export function initCommand(io: CommandIo): Command {
  const command = new Command('init')
    .summary('make a new project')
    .description(
      'Makes a project with functions that work: one over HTTP and, in TypeScript and JavaScript, one fired by rows. Files that are there already are kept.',
    )
    .argument('[dir]', 'folder of the project', '.')
    .addOption(
      new Option('--language <language>', 'what its functions are written in')
        .choices(OFFERED_LANGUAGES)
        .default(DEFAULT_LANGUAGE),
    )
    .option('--json', 'print one JSON value')
    .action(async (dir: string, options: InitOptions) => init(io, dir, options));
  return examples(command, [
    'postern init my-project',
    'postern init my-project --language javascript',
    'cd my-project && npm install && npx postern dev',
  ]);
}

async function init(io: CommandIo, dir: string, options: InitOptions): Promise<void> {
  const output = outputOf(io, options);
  const folder = resolve(dir);
  const written: string[] = [];
  const kept: string[] = [];
  await mkdir(folder, { recursive: true }).catch((cause: NodeJS.ErrnoException) => {
    throw new OperationError('NOT_WRITABLE', `${dir} can not be made (${cause.code ?? cause.message})`, { cause });
  });
  // Our functions would only be in the way of functions that are there.
  const hasFunctions = (await readdir(join(folder, 'functions')).catch(() => [])).length > 0;
  for (const [template, file] of Object.entries(PROJECTS[options.language].files)) {
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
