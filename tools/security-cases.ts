/**
 * The attacks and faults that Postern is built against, and which tests hold them: a test that holds one begins its name,
 * or the name of its `describe`, with the case's id. `docs/security.md` is made from this, by `tools/security-table.ts`.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';

export const ROOT = resolve(import.meta.dirname, '..');

export interface SecurityCase {
  readonly id: string;
  /** What is tried. */
  readonly attack: string;
  /** Why no test holds it yet. */
  readonly later?: string;
}

export interface SecurityGroup {
  readonly title: string;
  readonly cases: readonly SecurityCase[];
}

export const SECURITY_GROUPS: readonly SecurityGroup[] = [
  {
    title: 'Hostile functions: CPU',
    cases: [
      { id: 'CPU-01', attack: 'a loop without end' },
      { id: 'CPU-02', attack: 'a loop of bulk memory instructions' },
      { id: 'CPU-03', attack: 'a runaway during a graceful shutdown' },
      { id: 'CPU-04', attack: 'a native builtin that takes minutes' },
      { id: 'CPU-05', attack: 'huge joins, sorts, splits, BigInts' },
      { id: 'CPU-06', attack: 'a regular expression that backtracks without end' },
      { id: 'CPU-07', attack: 'endless promise jobs and timers' },
      { id: 'CPU-08', attack: 'shared memory and Atomics.wait' },
      { id: 'CPU-09', attack: 'a function that catches its own timeout' },
      { id: 'CPU-11', attack: 'CPU burned in getters and toJSON while the result is read' },
      { id: 'CPU-12', attack: 'a thousand runaways at once' },
    ],
  },
  {
    title: 'Hostile functions: memory',
    cases: [
      { id: 'MEM-01', attack: 'growing past the limit' },
      { id: 'MEM-02', attack: 'strings until memory ends' },
      { id: 'MEM-03', attack: 'deep recursion' },
      { id: 'MEM-04', attack: 'a result of a gigabyte' },
      { id: 'MEM-05', attack: 'a result nested a million deep' },
      { id: 'MEM-06', attack: 'a flood of log lines' },
      { id: 'MEM-07', attack: 'a flood of messages to the node' },
      { id: 'MEM-08', attack: 'tens of thousands of sandboxes at once' },
      { id: 'MEM-09', attack: 'memory left behind for the next invocation' },
    ],
  },
  {
    title: 'Hostile functions: isolation',
    cases: [
      { id: 'ISO-01', attack: 'state left in globals, prototypes, modules' },
      { id: 'ISO-02', attack: 'timers, promises and host calls left open' },
      { id: 'ISO-03', attack: 'an export name that is code' },
      { id: 'ISO-04', attack: 'import names that are code' },
      { id: 'ISO-05', attack: 'generated glue with other identifiers' },
      { id: 'ISO-06', attack: 'imports that are not offered' },
      { id: 'ISO-07', attack: 'paths and file descriptors of the host' },
      { id: 'ISO-08', attack: 'modules of Python that reach the system' },
      { id: 'ISO-09', attack: "a walk through Python's object graph" },
      { id: 'ISO-10', attack: 'constructors, stacks and callers of host functions' },
      { id: 'ISO-11', attack: 'what errors of host calls tell' },
      { id: 'ISO-13', attack: 'equal randomness in two restored sandboxes' },
      { id: 'ISO-15', attack: 'traps, stack overflows, out of memory' },
      { id: 'ISO-16', attack: 'functions that call one another in a circle' },
    ],
  },
  {
    title: 'Hostile SQL',
    cases: [
      { id: 'DB-01', attack: 'claims forged by set_config in a query' },
      { id: 'DB-02', attack: 'the role switched' },
      { id: 'DB-03', attack: 'stacked statements' },
      { id: 'DB-04', attack: 'COMMIT, ROLLBACK, BEGIN, SAVEPOINT alone' },
      { id: 'DB-05', attack: 'the statement timeout switched off' },
      { id: 'DB-06', attack: 'a client killed while its query runs' },
      { id: 'DB-07', attack: 'an invocation killed inside a transaction' },
      { id: 'DB-08', attack: 'session state left for the next borrower' },
      { id: 'DB-09', attack: 'no claims at all' },
      { id: 'DB-10', attack: 'temporary objects that shadow others' },
      { id: 'DB-11', attack: 'COPY, large objects, files, dblink, extensions' },
      { id: 'DB-12', attack: 'NOTIFY and LISTEN on our channels' },
      { id: 'DB-14', attack: "others' queries and settings in the catalogs" },
      { id: 'DB-16', attack: 'a million rows' },
      { id: 'DB-18', attack: 'ten thousand queries' },
      { id: 'DB-19', attack: 'a transaction held open' },
      { id: 'DB-20', attack: '__proto__, duplicate and empty column names' },
      { id: 'DB-21', attack: 'values that JavaScript can not hold' },
      { id: 'DB-23', attack: 'text that two parsers read differently' },
      { id: 'DB-25', attack: 'tables and views without row-level security' },
    ],
  },
  {
    title: 'Secrets and the boundary of the sandbox',
    cases: [
      { id: 'ENV-01', attack: 'names that the function does not list' },
      { id: 'ENV-02', attack: 'enumerating the environment' },
      { id: 'ENV-03', attack: 'the environment and files of the executor process' },
      { id: 'ENV-04', attack: 'a secret by reference, sent elsewhere' },
      { id: 'ENV-05', attack: 'secrets printed in disguise' },
      { id: 'ABI-01', attack: 'pointers and lengths that lie' },
      { id: 'ABI-02', attack: 'host calls at the wrong time' },
      { id: 'ABI-03', attack: 'broken frames' },
      { id: 'ABI-04', attack: 'a forged invocation token' },
      { id: 'ABI-05', attack: 'a million open host calls' },
      { id: 'ABI-07', attack: 'random frames' },
    ],
  },
  {
    title: 'Hostile functions: outgoing HTTP',
    cases: [
      { id: 'NET-01', attack: 'loopback in all its spellings' },
      { id: 'NET-02', attack: 'loopback and private addresses of IPv6' },
      { id: 'NET-03', attack: 'metadata services of clouds' },
      { id: 'NET-04', attack: 'an allowed name that resolves to a private address' },
      { id: 'NET-05', attack: 'DNS rebinding' },
      { id: 'NET-06', attack: 'redirects to elsewhere' },
      { id: 'NET-07', attack: 'credentials carried along by a redirect' },
      { id: 'NET-08', attack: 'URLs that look like an allowed host' },
      { id: 'NET-09', attack: 'other schemes and ports' },
      { id: 'NET-10', attack: 'headers that smuggle' },
      { id: 'NET-11', attack: 'responses without end, bombs, floods' },
      { id: 'NET-12', attack: "another function's connections" },
      { id: 'NET-13', attack: "the node's proxy settings" },
      { id: 'NET-17', attack: 'wildcards of the allow-list' },
    ],
  },
  {
    title: 'Hostile callers',
    cases: [
      { id: 'HTTP-01', attack: 'slow, idle and half-closed connections' },
      { id: 'HTTP-02', attack: 'bodies over the limit, in every way' },
      { id: 'HTTP-03', attack: 'request smuggling' },
      { id: 'HTTP-04', attack: 'paths that confuse the router' },
      { id: 'HTTP-05', attack: 'forged, foreign and expired tokens' },
      { id: 'HTTP-06', attack: 'JSON that pollutes or overflows' },
      { id: 'HTTP-07', attack: 'response headers and statuses from a function' },
      { id: 'HTTP-10', attack: 'errors made to tell too much' },
      { id: 'HTTP-11', attack: 'content types that lie' },
    ],
  },
  {
    title: 'Row data, other database users, and delivery',
    cases: [
      { id: 'ROW-01', attack: 'rows of a hundred megabytes' },
      { id: 'ROW-02', attack: 'columns and keys called __proto__' },
      { id: 'ROW-03', attack: 'values that JSON does not have' },
      { id: 'ROW-05', attack: 'names of tables and columns that break out of SQL' },
      { id: 'ROW-06', attack: 'a statement that changes a million rows' },
      { id: 'ROW-07', attack: 'a row that kills its function each time' },
      { id: 'ROW-08', attack: 'a function that fires itself' },
      { id: 'ROW-09', attack: 'a writer without rights, who reads or forges events' },
      { id: 'ROW-10', attack: 'objects in the search_path of capture' },
      { id: 'ROW-11', attack: 'our trigger functions on a table of their own' },
      { id: 'ROW-12', attack: 'changes that are not plain inserts, updates and deletes' },
      { id: 'ROW-14', attack: 'an outbox that can not be written' },
      { id: 'ROW-15', attack: 'work that is rolled back' },
      { id: 'CRON-01', attack: 'expressions that are none, or never end' },
      { id: 'CRON-02', attack: 'clocks that change' },
      { id: 'CRON-03', attack: 'nodes whose clocks differ' },
    ],
  },
  {
    title: 'Hostile webhook senders',
    cases: [
      { id: 'WH-01', attack: 'signatures that are wrong in every way' },
      { id: 'WH-02', attack: 'bodies that decode to the same text' },
      { id: 'WH-03', attack: 'timestamps that are old, future or no numbers' },
      { id: 'WH-04', attack: 'deliveries sent again' },
      { id: 'WH-05', attack: 'a known id with another body' },
      { id: 'WH-06', attack: 'schemes without an id' },
      { id: 'WH-07', attack: 'many headers and signatures' },
      { id: 'WH-08', attack: 'secrets that were removed, are empty or short' },
      { id: 'WH-09', attack: 'a crash between commit and answer' },
      { id: 'WH-10', attack: 'cost before the signature is known to be right' },
      { id: 'WH-11', attack: 'finding out which functions exist' },
      { id: 'WH-12', attack: 'compressed bodies' },
    ],
  },
  {
    title: 'A compromised executor',
    cases: [
      { id: 'ENG-01', attack: "asking for another invocation's rights" },
      { id: 'ENG-02', attack: 'reaching files, network and processes' },
      { id: 'ENG-03', attack: 'lying about results' },
      { id: 'ENG-04', attack: 'flooding, stalling, closing the pipe' },
      { id: 'ENG-05', attack: 'messages that pollute objects' },
      { id: 'ENG-07', attack: 'being used again after an abnormal end' },
    ],
  },
  {
    title: 'Sessions of code that is run',
    cases: [
      { id: 'SES-01', attack: 'secrets and data of a run that stay in the memory of its session' },
      { id: 'SES-02', attack: 'a damaged, forged or foreign image' },
      { id: 'SES-03', attack: "using another caller's session" },
      { id: 'SES-04', attack: 'two runs of a session at once' },
    ],
  },
  {
    title: 'Logs and dependencies',
    cases: [
      { id: 'LOG-01', attack: 'forged lines and terminal escapes' },
      { id: 'LOG-02', attack: 'host objects in logged errors' },
      { id: 'DEP-02', attack: 'dependencies that are not pinned' },
    ],
  },
];

export interface HoldingTest {
  readonly file: string;
  readonly name: string;
}

/** A name, or a part of one in a table of cases: any text that begins with an id. */
const NAMED = /(['"`])((?:[A-Z]{2,4}-\d{2}(?:,? |: ))(?:\\.|(?!\1)[^\\])*)\1/g;
const IDS = /^(?:(?:[A-Z]{2,4}-\d{2})(?:,? |: ))+/;

/** By case id. Names of templates are taken as they stand in the source. */
export function holdingTests(): Map<string, HoldingTest[]> {
  const found = new Map<string, HoldingTest[]>();
  const files = readdirSync(join(ROOT, 'test'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.ts'))
    .sort();
  for (const file of files) {
    const path = join(ROOT, 'test', file);
    for (const match of readFileSync(path, 'utf8').matchAll(NAMED)) {
      const name = (match[2] as string).replaceAll(/\\(.)/g, '$1');
      const ids = IDS.exec(name)?.[0] ?? '';
      const rest = name.slice(ids.length);
      for (const [id] of ids.matchAll(/[A-Z]{2,4}-\d{2}/g)) {
        const tests = found.get(id) ?? [];
        tests.push({ file: relative(ROOT, path), name: rest });
        found.set(id, tests);
      }
    }
  }
  return found;
}

const INTRODUCTION = `# What Postern withstands

Each case is an attack that was tried against Postern, and each name a test that tries it. Security is defence in depth:
the sandbox (WebAssembly, metered), then the executor process (empty environment, no network, no files), then the
database role of the caller. Functions of tenants that are hostile to one another want more than that: run their nodes in
containers or virtual machines of their own. What counts as a vulnerability, and how to tell us: [SECURITY.md](../SECURITY.md).

This page is made from the names of the tests by \`node tools/security-table.ts\`.
`;

/** The text of docs/security.md. */
export function securityPage(): string {
  const tests = holdingTests();
  const sections = SECURITY_GROUPS.map(({ title, cases }) => {
    const rows = cases.map(({ id, attack, later }) => `| ${id} | ${attack} | ${cell(tests.get(id), later)} |`);
    return [`## ${title}`, '', '| case | attack | held by |', '|---|---|---|', ...rows, ''].join('\n');
  });
  return `${INTRODUCTION}\n${sections.join('\n')}`;
}

function cell(tests: readonly HoldingTest[] | undefined, later: string | undefined): string {
  if (tests === undefined) return `*${later ?? 'no test'}*`;
  return tests.map(({ file, name }) => `[${escapeCell(name)}](../${file})`).join('<br>');
}

function escapeCell(text: string): string {
  return text.replaceAll(/[|[\]<>`*_\\]/g, (character) => `\\${character}`).replaceAll('\n', ' ');
}
