import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';

const ROOT = resolve(import.meta.dirname, '../..');

/** What each folder may import: the house of DESIGN 1, downwards only. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  runtime: [],
  database: ['runtime'],
  'host-functions': ['runtime', 'database'],
  invoker: ['runtime', 'host-functions', 'database'],
  triggers: ['runtime', 'host-functions', 'database', 'invoker'],
  embed: ['runtime', 'host-functions', 'invoker'],
  client: [],
  mcp: ['client'],
  server: ['runtime', 'host-functions', 'database', 'invoker', 'triggers', 'client', 'mcp'],
  cli: ['runtime', 'host-functions', 'database', 'invoker', 'triggers', 'embed', 'client', 'mcp', 'server'],
};
const FOLDERS = Object.keys(ALLOWED);

/**
 * Deep imports that are meant: code that runs inside the sandbox is bundled file by file and has no index to go through.
 */
const GUEST = /^(runtime\/javascript|host-functions|invoker)\/guest\//;

interface Import {
  readonly from: string;
  readonly to: string;
}

function sources(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && !entry.name.endsWith('.d.ts'))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)));
}

const IMPORT =
  /(?:^|[;}\n])\s*(?:import|export)\s(?:[^'";]*?\sfrom\s*)?['"](\.[^'"]+)['"]|import\(\s*['"](\.[^'"]+)['"]\s*\)/g;

function importsOf(file: string): Import[] {
  const text = readFileSync(join(ROOT, file), 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
  return [...text.matchAll(IMPORT)].map((match) => ({
    from: file,
    to: relative(ROOT, resolve(ROOT, dirname(file), (match[1] ?? match[2]) as string)),
  }));
}

const files = FOLDERS.flatMap(sources);
const imports = files.flatMap(importsOf);
const folderOf = (file: string): string => file.split('/')[0] as string;
const isData = (edge: Import): boolean => edge.to.endsWith('.json');
/** What the package declares for its users; there is nothing to be run in it. */
const isDeclaration = (edge: Import): boolean => DECLARED.has(edge.to);
const DECLARED: ReadonlySet<string> = new Set(['types/runtime.d.ts', 'types/client.d.ts']);
/** The types of parts that are compiled lazily inside the sandbox: they import the loader, which names their types only. */
const isLazyPart = ({ from, to }: Import): boolean =>
  from === 'runtime/javascript/guest/web/parts.ts' && to.startsWith('runtime/javascript/guest/web/lazy/');

describe('imports', () => {
  test('every folder of the house has sources, and their imports are seen', () => {
    for (const folder of FOLDERS) expect(sources(folder).length, folder).toBeGreaterThan(0);
    expect(imports.length).toBeGreaterThan(200);
  });

  test('go downwards only', () => {
    const wrong = imports.filter(({ from, to }) => {
      const [source, target] = [folderOf(from), folderOf(to)];
      return (
        source !== target && !isDeclaration({ from, to }) && !(ALLOWED[source] as readonly string[]).includes(target)
      );
    });
    expect(wrong).toEqual([]);
  });

  test('go through an index.ts of the other folder', () => {
    const wrong = imports.filter((edge) => {
      const crosses = folderOf(edge.from) !== folderOf(edge.to);
      return (
        crosses && !edge.to.endsWith('/index.ts') && !isData(edge) && !isDeclaration(edge) && !GUEST.test(edge.from)
      );
    });
    expect(wrong).toEqual([]);
  });

  test("never go to one's own folder's index.ts", () => {
    const wrong = imports.filter(({ from, to }) => to === `${folderOf(from)}/index.ts`);
    expect(wrong).toEqual([]);
  });

  test('load the SDK of the Model Context Protocol when an assistant asks, and not before', () => {
    const eager = /(?:from|import)\s*['"](?:@modelcontextprotocol\/|[./]*mcp\/)/;
    const found = files.filter((file) => eager.test(readFileSync(join(ROOT, file), 'utf8')));
    expect(found.length).toBeGreaterThan(0);
    expect([...new Set(found.map(folderOf))]).toEqual(['mcp']);
  });

  test('have no cycle', () => {
    const edges = new Map<string, string[]>();
    for (const edge of imports) {
      if (!isLazyPart(edge)) edges.set(edge.from, [...(edges.get(edge.from) ?? []), edge.to]);
    }
    const state = new Map<string, 'open' | 'done'>();
    const cycles: string[][] = [];
    const visit = (file: string, path: string[]): void => {
      if (state.get(file) === 'done') return;
      if (state.get(file) === 'open') {
        cycles.push([...path.slice(path.indexOf(file)), file]);
        return;
      }
      state.set(file, 'open');
      for (const next of edges.get(file) ?? []) visit(next, [...path, file]);
      state.set(file, 'done');
    };
    for (const file of files) visit(file, []);
    expect(cycles).toEqual([]);
  });
});
