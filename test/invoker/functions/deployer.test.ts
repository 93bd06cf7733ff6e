import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { storeImage } from '../../../invoker/functions/function-store.ts';
import { Deployer } from '../../../invoker/functions/index.ts';
import { bundle, MAX_SOURCE_BYTES, stopBundler } from '../../../runtime/javascript/bundle/index.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { startTestNode, type TestNode } from './support.ts';

let db: TestDatabase;
let node: TestNode;

beforeAll(async () => {
  db = await createTestDatabase();
  await db.pool.query('create table users (id int)');
  node = await startTestNode(db);
});
afterAll(async () => {
  await node.stop();
  await db.drop();
});

const deploy = (name: string, source: string, config: Record<string, unknown> = {}) =>
  node.deployer.deploy({ config: { name, ...config }, source });
const imageOf = async (name: string) => {
  const version = await node.catalog.active(name);
  return Buffer.from(await node.catalog.image(version.versionId)).toString();
};

test('a first deploy makes version 1 active, and its image can be read at once', async () => {
  const deployed = await deploy('first', 'export const handler = () => 1');
  expect(deployed).toMatchObject({ name: 'first', version: 1, created: true });
  expect(deployed.versionId).toMatch(/^[0-9a-f]{64}$/);
  expect(await node.catalog.active('first')).toMatchObject({
    version: 1,
    versionId: deployed.versionId,
    envJson: '{}',
  });
  expect(await imageOf('first')).toContain('() => 1');
});

test('the same input gives the same id and no new version, other input the next number', async () => {
  const one = await deploy('same', 'one');
  const two = await deploy('same', 'two');
  const again = await deploy('same', 'one');
  expect([one.version, two.version, again.version]).toEqual([1, 2, 1]);
  expect(again).toMatchObject({ created: false, versionId: one.versionId });
  expect((await node.catalog.active('same')).version).toBe(1);
  expect((await deploy('same', 'three')).version).toBe(3);
});

test('configuration is part of the id', async () => {
  const one = await deploy('configured', 'x', { timeout: '2s' });
  const two = await deploy('configured', 'x', { timeout: '3s' });
  expect(two.versionId).not.toBe(one.versionId);
  expect((await deploy('configured-too', 'x', { timeout: '2s' })).versionId).not.toBe(one.versionId);
});

test('the code may configure itself, and the request wins', async () => {
  const source = '// config {"name":"self","timeout":"4s","auth":"none"}\nx';
  const { config } = await node.deployer.deploy({ source, config: { auth: 'optional' } });
  expect(config).toMatchObject({ name: 'self', timeoutMs: 4_000, auth: 'optional' });
});

test('code that nothing names is refused, and no function of a made-up name is there', async () => {
  await expect(node.deployer.deploy({ source: 'x' })).rejects.toMatchObject({
    code: 'INVALID_FUNCTION',
    message: expect.stringMatching(/^name: nothing was given; allowed: a name of 1 to 63 characters/),
    details: { field: 'name' },
  });
  expect((await node.store.list()).map((one) => one.name)).not.toContain('function');
});

test('the code is evaluated again under its own limits where it states other ones', async () => {
  node.builder.requests.length = 0;
  await deploy('own-limits', '// config {"memory":"32MB"}\nx');
  expect(node.builder.requests.map((request) => request.memoryBytes)).toEqual([128 * 2 ** 20, 32 * 2 ** 20]);
});

test('a failing deploy says file, line, column and the line, and leaves the old version serving', async () => {
  await deploy('steady', 'good');
  const failing = node.deployer.deploy({
    config: { name: 'steady' },
    source: 'fine\nboom() // throws',
    fileName: 'steady.ts',
  });
  await expect(failing).rejects.toMatchObject({
    code: 'INVALID_FUNCTION',
    message: expect.stringMatching(/^steady\.ts:2:1: .*\n {2}boom\(\) \/\/ throws$/),
    details: { file: 'steady.ts', line: 2, column: 1, text: 'boom() // throws' },
    guestStack: '    at top (steady.ts:2:1)',
  });
  expect(await imageOf('steady')).toContain('good');
  expect(await node.store.versions('steady')).toHaveLength(1);
});

test('a trigger that can not be installed leaves nothing of the deploy behind', async () => {
  await deploy('watcher', 'good');
  const trigger = { type: 'database', table: 'nowhere' };
  await expect(deploy('watcher', 'new', { trigger })).rejects.toMatchObject({ code: 'INVALID_FUNCTION' });
  await expect(deploy('never', 'new', { trigger })).rejects.toMatchObject({ code: 'INVALID_FUNCTION' });
  expect(await imageOf('watcher')).toContain('good');
  expect((await node.store.list()).map((one) => one.name)).not.toContain('never');
});

test('a deploy says of a function with service_role that it bypasses row-level security, and of others nothing', async () => {
  await db.pool.query(`do $$ begin
    if not exists (select from pg_roles where rolname = 'service_role') then create role service_role nologin bypassrls; end if;
  end $$`);
  const { warnings } = await deploy('mighty', 'x', { db: { role: 'service_role' } });
  expect(warnings).toEqual([
    '"mighty" runs SQL as service_role, whoever calls it: it bypasses row-level security and may define tables',
  ]);
  expect((await deploy('mighty', 'x', { db: { role: 'invoker' } })).warnings).toEqual([]);
});

test('a role that a function may not have, or that is not there, is refused by field, value and reason', async () => {
  const role = `d_${randomBytes(4).toString('hex')}`;
  await db.pool.query(`create role ${role}; create role ${role}_free bypassrls`);
  const refused: readonly [string, string][] = [
    ['nobody_of_that_name', 'there is no database role nobody_of_that_name'],
    ['postgres', 'the database role postgres is a superuser'],
    ['pg_read_all_data', 'the predefined role pg_read_all_data is not for functions'],
    ['postern_capture', "the database role postern_capture is one of Postern's own"],
    [`${role}_free`, `the database role ${role}_free bypasses row-level security`],
  ];
  for (const [given, reason] of refused) {
    const refusal = await deploy('roles', 'x', { db: { role: given } }).catch((error: unknown) => error);
    expect(refusal, given).toMatchObject({
      code: 'INVALID_FUNCTION',
      message: expect.stringContaining(`db.role: "${given}" was given; allowed: 'invoker', 'service_role' or a role`),
      details: { field: 'db.role' },
    });
    expect((refusal as Error).message).toContain(reason);
  }
  expect((await node.store.list()).map((one) => one.name)).not.toContain('roles');
  await deploy('roles', 'one', { db: { role } });
  await deploy('roles', 'two');
  await db.pool.query(`drop role ${role}, ${role}_free`);
  await expect(node.deployer.rollback('roles')).rejects.toThrow(`there is no database role ${role}`);
});

test('a module with only fetch() can not have a database trigger', async () => {
  const trigger = { type: 'database', table: 'users' };
  await expect(deploy('fetcher', '// form fetch', { trigger })).rejects.toThrow('exports only fetch()');
  await expect(deploy('fetcher', '// form handler+fetch', { trigger })).resolves.toMatchObject({ version: 1 });
});

test('DEP-01 concurrent deploys of one function take turns: each version has its own number', async () => {
  const sources = Array.from({ length: 8 }, (_, index) => `source ${index}`);
  const deployed = await Promise.all(sources.map((source) => deploy('busy', source)));
  expect(deployed.map((one) => one.version).sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  const active = await node.catalog.active('busy');
  expect(deployed.find((one) => one.version === active.version)?.versionId).toBe(active.versionId);
});

test.each(['../x.js', '/etc/x.js', 'a/../../x.js', 'a\\..\\x.js', 'a//x.js', 'x\0.js', 'C:/x.js'])(
  'DEP-01 the path %j is refused',
  async (path) => {
    const deploying = node.deployer.deploy({ config: { name: 'paths' }, files: { 'index.js': 'x', [path]: 'y' } });
    await expect(deploying).rejects.toMatchObject({
      code: 'INVALID_FUNCTION',
      message: expect.stringContaining('path'),
    });
  },
);

test('DEP-01 more than 5 MB of source is refused, and a source map at its end is not counted', async () => {
  const { store, catalog, sync, builder } = node;
  const deployer = new Deployer({ store, catalog, sync, bundler: { bundle }, builder });
  const large = (source: string) => deployer.deploy({ config: { name: 'large' }, source });
  const json = JSON.stringify({
    version: 3,
    sources: ['a'],
    sourcesContent: ['x'.repeat(3e6)],
    names: [],
    mappings: '',
  });
  const map = `//# sourceMappingURL=data:application/json;base64,${Buffer.from(json).toString('base64')}`;
  const code = `export const handler = () => 1; //${'x'.repeat(4 * 2 ** 20)}\n`;
  expect((await large(code + map)).version).toBe(1);
  expect((await large(`${code}${map}\n`)).version).toBe(2);
  // Only the last line is a map: what follows one is code.
  await expect(large(`\n${map}\n//${'x'.repeat(MAX_SOURCE_BYTES)}`)).rejects.toThrow('at most 5 MB');
  await expect(large('/'.repeat(MAX_SOURCE_BYTES + 1))).rejects.toMatchObject({
    code: 'INVALID_FUNCTION',
    message: 'the source is 5.1 MB; at most 5 MB are allowed',
  });
  await stopBundler();
});

test('a manifest names the function by its file, its code by sourceFile, its dependencies by file', async () => {
  const deployed = await node.deployer.deploy({
    manifest: '{ "sourceFile": "src/main.ts", "dependencies": { "greeter": { "file": "lib/greeter.js" } } } // ok',
    manifestName: 'orders.function.jsonc',
    files: { 'src/main.ts': 'x', 'lib/greeter.js': 'module.exports = 1' },
  });
  expect(deployed.config).toMatchObject({ name: 'orders', language: 'typescript' });
  const { source } = await node.store.show('orders');
  expect(source).toMatchObject({ main: 'src/main.ts', dependencies: { greeter: 'module.exports = 1' } });
});

test('rollback without a number goes to the version before the active one, with its triggers', async () => {
  const trigger = { type: 'database', table: 'users' };
  await deploy('back', 'one', { trigger });
  await deploy('back', 'two');
  const { functionId } = await node.catalog.active('back');
  expect(node.installer.installed.get(functionId)).toEqual([{ type: 'http' }]);
  expect(await node.deployer.rollback('back')).toMatchObject({ version: 1 });
  expect(node.installer.installed.get(functionId)).toMatchObject([{ type: 'database', table: 'users' }]);
  expect(await imageOf('back')).toContain('one');
  await expect(node.deployer.rollback('back')).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  expect(await node.deployer.rollback('back', 2)).toMatchObject({ version: 2 });
  await expect(node.deployer.rollback('back', 9)).rejects.toThrow('has no version 9');
  await expect(node.deployer.rollback('nobody')).rejects.toMatchObject({ code: 'FUNCTION_NOT_FOUND' });
});

test('versions are listed newest first and say which is active', async () => {
  await deploy('listed', 'one');
  await deploy('listed', 'two');
  await node.deployer.rollback('listed');
  expect(await node.store.versions('listed')).toMatchObject([
    { version: 2, active: false },
    { version: 1, active: true },
  ]);
});

test('a deploy keeps the ten newest versions, and the one that was active before it', async () => {
  const stored = async () => {
    const { rows } = await db.pool.query<{ version: number; images: number }>(
      `select v.version, (select count(*)::int from postern.images i where i.version_id = v.version_id) as images
         from postern.versions v join postern.functions f on f.id = v.function_id where f.name = 'kept' order by 1`,
    );
    expect(rows.every(({ images }) => images === 1)).toBe(true);
    return rows.map(({ version }) => version);
  };
  const ids: string[] = [];
  const next = async () => ids.push((await deploy('kept', `export const n = ${ids.length};`)).versionId);
  for (let n = 1; n <= 10; n++) await next();
  expect(await stored()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  await next();
  expect(await stored()).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  await node.deployer.rollback('kept', 2);
  for (let n = 12; n <= 13; n++) {
    await node.deployer.rollback('kept', 2);
    await next();
    // Version 2 served until this deploy: who has to go back goes back to it.
    expect((await stored())[0]).toBe(2);
  }
  expect(await stored()).toEqual([2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
  await next();
  expect(await stored()).toEqual([5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
  await expect(node.deployer.rollback('kept', 2)).rejects.toThrow("function 'kept' has no version 2");
  const { rows } = await db.pool.query('select from postern.images where version_id = any ($1)', [ids.slice(0, 4)]);
  expect(rows).toHaveLength(0);
  // What went may come back, under a new number.
  expect(await deploy('kept', 'export const n = 0;')).toMatchObject({ version: 15, versionId: ids[0], created: true });
});

test('a rollback to a version that a deploy removes meanwhile is refused, and leaves no image behind', async () => {
  const target = await deploy('hurried', 'source 1');
  const late = node.store.rollback('hurried', 1, async () => {
    for (let n = 2; n <= 12; n++) await deploy('hurried', `source ${n}`);
    await storeImage(db.pool, target.versionId, 'engine-1', Buffer.from('late'));
  });
  await expect(late).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  expect((await node.catalog.active('hurried')).version).toBe(12);
  const { rows } = await db.pool.query('select from postern.images where version_id = $1', [target.versionId]);
  expect(rows).toHaveLength(0);
});

test('delete removes the function, its versions, images and triggers; a new one of the name starts at version 1', async () => {
  const { versionId } = await deploy('gone', 'one', { trigger: { type: 'database', table: 'users' } });
  const { functionId } = await node.catalog.active('gone');
  await node.deployer.delete('gone');
  await expect(Promise.resolve(node.catalog.active('gone'))).rejects.toMatchObject({ code: 'FUNCTION_NOT_FOUND' });
  expect(node.installer.installed.has(functionId)).toBe(false);
  const { rows } = await db.pool.query('select from postern.images where version_id = $1', [versionId]);
  expect(rows).toHaveLength(0);
  await expect(node.deployer.delete('gone')).rejects.toMatchObject({ code: 'FUNCTION_NOT_FOUND' });
  expect((await deploy('gone', 'two')).version).toBe(1);
});

test('a node with another engine builds the image anew, once, and stores it', async () => {
  const { versionId } = await deploy('engines', 'body');
  const other = await startTestNode(db, { engineId: 'engine-2' });
  try {
    const images = await Promise.all([other.catalog.image(versionId), other.catalog.image(versionId)]);
    expect(images.map((image) => Buffer.from(image).toString())).toEqual(['engine-2:body', 'engine-2:body']);
    expect(other.builder.requests).toHaveLength(1);
    const { rows } = await db.pool.query('select engine_id from postern.images where version_id = $1 order by 1', [
      versionId,
    ]);
    expect(rows.map((row) => row.engine_id)).toEqual(['engine-1', 'engine-2']);
  } finally {
    await other.stop();
  }
});
