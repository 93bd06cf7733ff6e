/** What functions bundle most: for each package a few lines that use what it is for, run in the sandbox and in Node. */

export interface PackageCase {
  readonly name: string;
  /** A module whose `handler` returns JSON; the same text runs in both. */
  readonly source: string;
  /** Where the sandbox does not answer as Node: what it says (a part of the message), and why, for the document. */
  readonly fails?: { readonly message: string; readonly reason: string };
}

const use = (name: string, imports: string, body: string, fails?: PackageCase['fails']): PackageCase => ({
  name,
  source: `${imports}\nexport async function handler() {\n${body}\n}\n`,
  ...(fails === undefined ? {} : { fails }),
});

const NO_INTL = {
  message: 'Intl is not defined',
  reason: 'every date of luxon needs `Intl`, which the engine does not have; date-fns, dayjs and rrule work',
};

/** Compiled from text at run time: `eval` and `new Function` are the sandbox's own, which is the wall. */
export const CODE_FROM_TEXT = ['ajv', 'ejs', 'handlebars'];

export const PACKAGES: readonly PackageCase[] = [
  use(
    '@msgpack/msgpack',
    `import { decode, encode } from '@msgpack/msgpack';`,
    `const bytes = encode({ id: 7, tags: ['a', 'ü'], nested: { at: new Date(0), ok: true }, raw: new Uint8Array([1, 2]) });
     return [Array.from(bytes), decode(bytes)];`,
  ),
  use(
    '@noble/hashes',
    `import { sha256 } from '@noble/hashes/sha2.js'; import { hmac } from '@noble/hashes/hmac.js'; import { blake3 } from '@noble/hashes/blake3.js'; import { bytesToHex } from '@noble/hashes/utils.js';`,
    `const text = new TextEncoder().encode('postern'); return [sha256(text), hmac(sha256, text, text), blake3(text)].map(bytesToHex);`,
  ),
  use(
    '@paralleldrive/cuid2',
    `import { createId, isCuid } from '@paralleldrive/cuid2';`,
    `const ids = Array.from({ length: 20 }, () => createId()); return [ids.every((id) => isCuid(id) && id.length === 24), new Set(ids).size];`,
  ),
  use(
    'ajv',
    `import Ajv from 'ajv';`,
    `const ajv = new Ajv({ allErrors: true }); const validate = ajv.compile({ type: 'object', properties: { age: { type: 'integer', minimum: 18 }, email: { type: 'string', pattern: '@' } }, required: ['age'] });
     return [validate({ age: 20 }), validate({ age: 3, email: 'no' }), validate.errors];`,
  ),
  use(
    'bcryptjs',
    `import bcrypt from 'bcryptjs';`,
    `const hash = bcrypt.hashSync('secret', '$2b$04$abcdefghijklmnopqrstuu'); return [hash, await bcrypt.compare('secret', hash), bcrypt.compareSync('other', hash), (await bcrypt.genSalt(4)).length];`,
  ),
  use(
    'bignumber.js',
    `import BigNumber from 'bignumber.js';`,
    `return [new BigNumber('0.1').plus('0.2').toString(), new BigNumber(2).pow(200).toFixed(), new BigNumber('1234567.891').toFormat(2)];`,
  ),
  use(
    'change-case',
    `import * as cases from 'change-case';`,
    `return [cases.camelCase('foo bar-baz'), cases.snakeCase('fooBarBaz'), cases.constantCase('a b'), cases.pascalCase('x_y'), cases.kebabCase('HelloWorld')];`,
  ),
  use(
    'cron-parser',
    `import { CronExpressionParser } from 'cron-parser';`,
    `const next = CronExpressionParser.parse('*/15 9-17 * * 1-5', { currentDate: new Date('2026-01-02T16:50:00Z'), tz: 'UTC' }); return [next.next().toISOString(), next.next().toISOString()];`,
    { ...NO_INTL, reason: 'its dates are luxon’s' },
  ),
  use(
    'csv-parse',
    `import { parse } from 'csv-parse/sync';`,
    `return parse('id,name\\n1,"Smith, ""J"""\\n2,Ünal\\n', { columns: true, cast: true });`,
  ),
  use(
    'currency.js',
    `import currency from 'currency.js';`,
    `return [currency('1,234.56').add(0.1).format(), currency(10).distribute(3).map(String)];`,
  ),
  use(
    'date-fns',
    `import { addMonths, differenceInCalendarDays, format, formatDistance, parseISO } from 'date-fns'; import { de } from 'date-fns/locale';`,
    `const day = new Date(2026, 0, 31, 13, 5); return [format(day, "yyyy-MM-dd'T'HH:mm EEEE"), format(day, 'PPPP', { locale: de }), format(addMonths(day, 1), 'yyyy-MM-dd'), differenceInCalendarDays(parseISO('2026-03-01'), day), formatDistance(parseISO('2026-03-01'), day)];`,
  ),
  use(
    'dayjs',
    `import dayjs from 'dayjs'; import utc from 'dayjs/plugin/utc.js'; import relative from 'dayjs/plugin/relativeTime.js'; dayjs.extend(utc); dayjs.extend(relative);`,
    `const day = dayjs.utc('2026-02-28T12:00:00Z'); return [day.add(1, 'day').format('dddd, MMMM D, YYYY h:mm A'), day.from(dayjs.utc('2026-03-10')), day.startOf('month').toISOString()];`,
  ),
  use(
    'decimal.js',
    `import Decimal from 'decimal.js';`,
    `return [new Decimal(2).sqrt().toString(), Decimal.exp(1).toFixed(15), new Decimal('1e30').div(7).toString()];`,
  ),
  use(
    'diff',
    `import { createPatch, diffWords } from 'diff';`,
    `return [diffWords('the quick fox', 'the slow fox'), createPatch('a.txt', 'one\\ntwo\\n', 'one\\nthree\\n')];`,
  ),
  use(
    'drizzle-orm',
    `import { and, eq, gt, sql } from 'drizzle-orm'; import { integer, pgTable, QueryBuilder, text } from 'drizzle-orm/pg-core';`,
    `const users = pgTable('users', { id: integer('id').primaryKey(), name: text('name') });
     return new QueryBuilder().select({ id: users.id, upper: sql\`upper(\${users.name})\` }).from(users).where(and(eq(users.name, 'Ann'), gt(users.id, 5))).limit(3).toSQL();`,
  ),
  use(
    'ejs',
    `import ejs from 'ejs';`,
    `return ejs.render('<% for (const item of items) { %><li><%= item %></li><% } %>', { items: ['a', '<b>'] });`,
  ),
  use(
    'eventemitter3',
    `import EventEmitter from 'eventemitter3';`,
    `const emitter = new EventEmitter(); const seen = []; emitter.on('x', (n) => seen.push(n)); emitter.once('x', (n) => seen.push(n * 10)); emitter.emit('x', 1); emitter.emit('x', 2); return seen;`,
  ),
  use(
    'fast-json-patch',
    `import patch from 'fast-json-patch';`,
    `const before = { a: [1, 2], b: { c: 3 } }; const after = { a: [1], b: { c: 4, d: 5 } }; const steps = patch.compare(before, after); return [steps, patch.applyPatch(before, steps).newDocument];`,
  ),
  use(
    'fast-xml-parser',
    `import { XMLBuilder, XMLParser } from 'fast-xml-parser';`,
    `const value = new XMLParser({ ignoreAttributes: false }).parse('<a x="1"><b>2</b><b>zwei &amp; drei</b></a>'); return [value, new XMLBuilder({ ignoreAttributes: false }).build(value)];`,
  ),
  use(
    'fuse.js',
    `import Fuse from 'fuse.js';`,
    `return new Fuse([{ title: 'Old Man and the Sea' }, { title: 'War and Peace' }], { keys: ['title'], includeScore: true }).search('peece').map(({ item }) => item);`,
  ),
  use(
    'graphql',
    `import { buildSchema, graphql } from 'graphql';`,
    `const schema = buildSchema('type Query { hello(name: String!): String, list: [Int!]! }'); return [await graphql({ schema, source: '{ hello(name: "Ann") list }', rootValue: { hello: ({ name }) => 'Hi ' + name, list: [1, 2] } }), await graphql({ schema, source: '{ nope }' })];`,
  ),
  use(
    'handlebars',
    `import Handlebars from 'handlebars';`,
    `return Handlebars.compile('{{#each items}}<li>{{name}}</li>{{else}}none{{/each}}')({ items: [{ name: 'a' }, { name: '<b>' }] });`,
  ),
  use(
    'he',
    `import he from 'he';`,
    `return [he.encode('foo © bar ≠ 𝌆', { useNamedReferences: true }), he.decode('&lt;&eacute;&#x1F600;&gt;')];`,
  ),
  use(
    'hono',
    `import { Hono } from 'hono'; import { cors } from 'hono/cors'; import { HTTPException } from 'hono/http-exception';`,
    `const app = new Hono(); app.use(cors()); app.get('/users/:id', (c) => c.json({ id: c.req.param('id'), q: c.req.query('q') })); app.post('/echo', async (c) => c.text((await c.req.text()).toUpperCase(), 201)); app.get('/no', () => { throw new HTTPException(403, { message: 'no' }); });
     const out = []; for (const r of [await app.request('/users/7?q=x'), await app.request('/echo', { method: 'POST', body: 'hi' }), await app.request('/no'), await app.request('/none')]) out.push([r.status, await r.text(), r.headers.get('access-control-allow-origin')]); return out;`,
  ),
  use(
    'htmlparser2',
    `import { parseDocument, Parser } from 'htmlparser2';`,
    `const seen = []; const parser = new Parser({ onopentag: (name, attributes) => seen.push([name, attributes]), ontext: (text) => seen.push(text) }); parser.write('<p class=x>Hi <b>you</b>&amp;'); parser.end(); return [seen, parseDocument('<i>x</i>').children[0].name];`,
  ),
  use(
    'immer',
    `import { produce } from 'immer';`,
    `const before = { list: [{ n: 1 }], other: {} }; const after = produce(before, (draft) => { draft.list[0].n += 1; draft.list.push({ n: 9 }); }); return [before, after, before.other === after.other, Object.isFrozen(after)];`,
  ),
  use(
    'itty-router',
    `import { AutoRouter } from 'itty-router';`,
    `const router = AutoRouter(); router.get('/todos/:id', ({ id, query }) => ({ id, query })); const r = await router.fetch(new Request('http://x/todos/5?a=1&a=2')); const n = await router.fetch(new Request('http://x/none')); return [r.status, await r.json(), r.headers.get('content-type'), n.status];`,
  ),
  use(
    'jmespath',
    `import jmespath from 'jmespath';`,
    `return jmespath.search({ people: [{ name: 'a', age: 30 }, { name: 'b', age: 50 }] }, 'people[?age > \`40\`].{n: name, older: age}');`,
  ),
  use(
    'joi',
    `import Joi from 'joi';`,
    `const schema = Joi.object({ name: Joi.string().min(3).required(), age: Joi.number().integer().default(5) }); return [schema.validate({ name: 'Anna' }), schema.validate({ name: 'x', y: 1 }, { abortEarly: false }).error.details.map(({ message }) => message)];`,
  ),
  use(
    'jose',
    `import { jwtVerify, SignJWT, exportJWK, generateKeyPair } from 'jose';`,
    `const key = new TextEncoder().encode('a-secret-of-at-least-32-bytes-length!'); const token = await new SignJWT({ role: 'anon' }).setProtectedHeader({ alg: 'HS256' }).setIssuedAt(1).setSubject('u').sign(key); const { payload } = await jwtVerify(token, key);
     const bad = await jwtVerify(token + 'x', key).catch((error) => error.code); const pair = await generateKeyPair('ES256', { extractable: true }); const es = await new SignJWT({}).setProtectedHeader({ alg: 'ES256' }).sign(pair.privateKey); return [token, payload, bad, (await jwtVerify(es, pair.publicKey)).protectedHeader, (await exportJWK(pair.publicKey)).crv];`,
  ),
  use(
    'jsonwebtoken',
    `import jwt from 'jsonwebtoken';`,
    `const token = jwt.sign({ role: 'anon', iat: 1 }, 'secret'); let bad; try { jwt.verify(token, 'other'); } catch (error) { bad = error.message; } return [token, jwt.verify(token, 'secret'), bad, jwt.decode(token, { complete: true }).header];`,
  ),
  use(
    'kysely',
    `import { DummyDriver, Kysely, PostgresAdapter, PostgresIntrospector, PostgresQueryCompiler, sql } from 'kysely';`,
    `const db = new Kysely({ dialect: { createAdapter: () => new PostgresAdapter(), createDriver: () => new DummyDriver(), createIntrospector: (k) => new PostgresIntrospector(k), createQueryCompiler: () => new PostgresQueryCompiler() } });
     const { sql: text, parameters } = db.selectFrom('person as p').innerJoin('pet', 'pet.owner', 'p.id').select(['p.id', sql\`lower(p.name)\`.as('low')]).where('p.age', '>', 18).orderBy('p.id').limit(2).compile(); return [text, parameters, await db.selectFrom('person').selectAll().execute()];`,
  ),
  use(
    'libphonenumber-js',
    `import { AsYouType, parsePhoneNumberFromString } from 'libphonenumber-js';`,
    `const number = parsePhoneNumberFromString('030 123456', 'DE'); return [number.number, number.country, number.formatInternational(), number.isValid(), new AsYouType('US').input('2133734253')];`,
  ),
  use(
    'liquidjs',
    `import { Liquid } from 'liquidjs';`,
    `return new Liquid().parseAndRender('{% for p in list %}{{ p.name | upcase }}-{{ p.at | date: "%Y-%m-%d" }} {% endfor %}', { list: [{ name: 'ann', at: '2026-01-02' }] });`,
  ),
  use(
    'lodash-es',
    `import { chunk, cloneDeep, debounce, groupBy, merge, orderBy, template } from 'lodash-es';`,
    `let calls = 0; const later = debounce(() => calls++, 5); later(); later(); await new Promise((resolve) => setTimeout(resolve, 40)); return [chunk([1, 2, 3], 2), groupBy([1.2, 1.8, 2.1], Math.floor), merge({ a: { b: 1 } }, { a: { c: 2 } }), orderBy([{ n: 1 }, { n: 3 }], 'n', 'desc'), cloneDeep(new Map([[1, { a: 1 }]])).get(1), template('hi <%= name %>')({ name: 'x' }), calls];`,
  ),
  use(
    'luxon',
    `import { DateTime, Duration, Interval } from 'luxon';`,
    `const at = DateTime.fromISO('2026-02-28T12:00:00Z', { zone: 'utc' }); return [at.plus({ months: 1, days: 2 }).toISO(), at.toFormat('yyyy-LL-dd HH:mm'), Duration.fromObject({ hours: 1, minutes: 90 }).normalize().toISO(), Interval.fromDateTimes(at, at.plus({ days: 3 })).length('hours')];`,
    NO_INTL,
  ),
  use(
    'markdown-it',
    `import MarkdownIt from 'markdown-it';`,
    `return new MarkdownIt({ html: false, linkify: true }).render('# Hi\\n\\n* a **b** \`c\`\\n\\n| x | y |\\n|---|---|\\n| 1 | http://example.com |\\n');`,
  ),
  use(
    'marked',
    `import { marked } from 'marked';`,
    `return marked.parse('# Hi\\n\\n1. a _b_\\n\\n> q\\n\\n\`\`\`js\\nx < y\\n\`\`\`\\n');`,
  ),
  use('ms', `import ms from 'ms';`, `return [ms('2 days'), ms('1.5h'), ms(60000), ms(172800000, { long: true })];`),
  use(
    'mustache',
    `import Mustache from 'mustache';`,
    `return Mustache.render('{{#items}}<b>{{name}}</b>{{{raw}}}{{/items}}{{^none}}-{{/none}}', { items: [{ name: '<x>', raw: '<i>' }] });`,
  ),
  use(
    'nanoid',
    `import { customAlphabet, nanoid } from 'nanoid';`,
    `const ids = Array.from({ length: 50 }, () => nanoid()); return [ids.every((id) => /^[\\w-]{21}$/.test(id)), new Set(ids).size, /^[abc]{8}$/.test(customAlphabet('abc', 8)())];`,
  ),
  use(
    'neverthrow',
    `import { err, ok, Result, ResultAsync } from 'neverthrow';`,
    `const safe = Result.fromThrowable(JSON.parse, (error) => error.name); return [safe('{"a":1}').map((v) => v.a).unwrapOr(0), safe('{').match((v) => v, (e) => e), (await ResultAsync.fromPromise(Promise.reject(new Error('x')), (e) => e.message)).isErr(), ok(1).andThen(() => err('no')).isErr()];`,
  ),
  use(
    'object-hash',
    `import hash from 'object-hash';`,
    `return [hash({ b: 1, a: [new Date(0), /x/, null] }), hash('x', { algorithm: 'md5', encoding: 'base64' }), hash({ a: 1 }) === hash({ a: 1 })];`,
  ),
  use(
    'p-limit',
    `import pLimit from 'p-limit';`,
    `const limit = pLimit(2); let active = 0; let most = 0; const out = await Promise.all([1, 2, 3, 4].map((n) => limit(async () => { most = Math.max(most, ++active); await new Promise((r) => setTimeout(r, 2)); active -= 1; return n * 2; }))); return [out, most];`,
  ),
  use(
    'papaparse',
    `import Papa from 'papaparse';`,
    `return [Papa.parse('a,b\\n1,"x,y"\\n2,z', { header: true, dynamicTyping: true }).data, Papa.unparse([{ a: 1, b: 'q"q' }])];`,
  ),
  use(
    'path-to-regexp',
    `import { compile, match } from 'path-to-regexp';`,
    `return [match('/users/:id{/:tab}')('/users/5/posts').params, match('/files/*path')('/files/a/b').params, compile('/u/:id')({ id: 'a b' })];`,
  ),
  use(
    'pluralize',
    `import pluralize from 'pluralize';`,
    `return [pluralize('person', 2, true), pluralize('index'), pluralize.singular('wolves'), pluralize.isPlural('data')];`,
  ),
  use(
    'qs',
    `import qs from 'qs';`,
    `return [qs.parse('a[b][]=1&a[b][]=2&c=%C3%BC'), qs.stringify({ a: { b: [1, 2] }, d: new Date(0) }, { arrayFormat: 'brackets' })];`,
  ),
  use(
    'ramda',
    `import * as R from 'ramda';`,
    `return [R.pipe(R.filter((n) => n % 2), R.map(R.multiply(3)), R.sum)([1, 2, 3]), R.path(['a', 0, 'b'], { a: [{ b: 5 }] }), R.assocPath(['x', 'y'], 1, {}), R.equals({ a: [1] }, { a: [1] })];`,
  ),
  use(
    'rrule',
    `import * as all from 'rrule';`,
    `const { RRule } = all.default ?? all; const rule = new RRule({ freq: RRule.WEEKLY, byweekday: [RRule.MO, RRule.FR], dtstart: new Date(Date.UTC(2026, 0, 1)), count: 4 }); return [rule.all(), rule.toString(), rule.toText()];`,
  ),
  use(
    'rxjs',
    `import { bufferCount, catchError, concatMap, delay, from, interval, lastValueFrom, of, take, throwError, toArray } from 'rxjs';`,
    `return [await lastValueFrom(interval(2).pipe(take(4), concatMap((n) => of(n * 2).pipe(delay(1))), bufferCount(2), toArray())), await lastValueFrom(throwError(() => new Error('x')).pipe(catchError((e) => of(e.message)))), await lastValueFrom(from([1, 2]).pipe(toArray()))];`,
  ),
  use(
    'semver',
    `import semver from 'semver';`,
    `return [semver.satisfies('1.2.3', '^1.2.0 || >=3'), semver.inc('1.2.3-beta.1', 'prerelease'), semver.sort(['2.0.0', '1.10.0', '1.9.0']), semver.coerce('v4.6-x').version];`,
  ),
  use(
    'slugify',
    `import slugify from 'slugify';`,
    `return [slugify('Größe & Maß – Déjà vu!', { lower: true, strict: true }), slugify('a b', '_')];`,
  ),
  use(
    'smol-toml',
    `import { parse, stringify } from 'smol-toml';`,
    `const value = parse('title = "x"\\n[a.b]\\nn = 1_000\\nat = 2026-01-02T03:04:05Z\\n[[list]]\\nk = [1.5, 2.5]\\n'); return [value, stringify({ a: 1, b: { c: ['x'] } })];`,
  ),
  use(
    'superjson',
    `import superjson from 'superjson';`,
    `const text = superjson.stringify({ at: new Date(0), set: new Set([1]), big: 10n, none: undefined, map: new Map([['a', /x/g]]) }); const back = superjson.parse(text); return [text, back.at.toISOString(), [...back.set], String(back.big), back.map.get('a').flags];`,
  ),
  use(
    'superstruct',
    `import { array, assert, coerce, create, number, object, string, validate } from 'superstruct';`,
    `const User = object({ id: number(), tags: array(string()) }); const [error] = validate({ id: 'x', tags: [] }, User); return [error.message, error.path, create('5', coerce(number(), string(), Number)), (() => { try { assert({}, User); } catch (e) { return e.name; } })()];`,
  ),
  use(
    'ts-pattern',
    `import { match, P } from 'ts-pattern';`,
    `return [{ t: 'a', n: 3 }, { t: 'b', list: [1, 2] }, null].map((v) => match(v).with({ t: 'a', n: P.number.gt(2) }, ({ n }) => n).with({ list: P.array(P.select()) }, (l) => l).otherwise(() => 'none'));`,
  ),
  use(
    'tweetnacl',
    `import nacl from 'tweetnacl';`,
    `const pair = nacl.sign.keyPair.fromSeed(new Uint8Array(32).fill(7)); const text = new TextEncoder().encode('hi'); const signature = nacl.sign.detached(text, pair.secretKey); const box = nacl.secretbox(text, new Uint8Array(24), new Uint8Array(32)); return [Array.from(signature.slice(0, 8)), nacl.sign.detached.verify(text, signature, pair.publicKey), Array.from(box), nacl.randomBytes(8).length];`,
  ),
  use(
    'ulid',
    `import { decodeTime, monotonicFactory, ulid } from 'ulid';`,
    `const next = monotonicFactory(); const a = next(1000); const b = next(1000); return [ulid().length, decodeTime(a), a < b];`,
  ),
  use(
    'uuid',
    `import { v1, v4, v5, v7, validate, version } from 'uuid';`,
    `const ids = [v1(), v4(), v7()]; return [ids.map((id) => [validate(id), version(id)]), v5('hello.example.com', v5.DNS), new Set(ids).size];`,
  ),
  use(
    'valibot',
    `import * as v from 'valibot';`,
    `const User = v.object({ email: v.pipe(v.string(), v.email()), age: v.optional(v.number(), 3) }); return [v.parse(User, { email: 'a@b.de' }), v.safeParse(User, { email: 'x' }).issues.map(({ message }) => message)];`,
  ),
  use(
    'validator',
    `import validator from 'validator';`,
    `return [validator.isEmail('a@b.co'), validator.isIBAN('DE89370400440532013000'), validator.isURL('ftp://x'), validator.escape('<a>'), validator.isISO8601('2026-02-30', { strict: true }), validator.isCreditCard('4111111111111111')];`,
  ),
  use(
    'yaml',
    `import { parse, stringify, parseAllDocuments } from 'yaml';`,
    `return [parse('a: &x [1, 2]\\nb: *x\\nc: |\\n  text\\n  more\\nd: 2026-01-01\\n'), stringify({ list: ['a: b', null], n: { m: 1 } }), parseAllDocuments('---\\na: 1\\n---\\nb: 2').length];`,
  ),
  use(
    'yup',
    `import * as yup from 'yup';`,
    `const schema = yup.object({ name: yup.string().trim().required(), age: yup.number().positive().integer() }); return [await schema.validate({ name: ' x ', age: '24' }), await schema.validate({ age: -1 }, { abortEarly: false }).catch((e) => e.errors)];`,
  ),
  use(
    'zod',
    `import { z } from 'zod';`,
    `const User = z.object({ email: z.email(), at: z.coerce.date(), role: z.enum(['a', 'b']).default('a') }); return [User.parse({ email: 'a@b.de', at: '2026-01-01' }), User.safeParse({ email: 'x', at: 'y' }).error.issues.map(({ path, code }) => [path, code]), z.toJSONSchema(z.object({ n: z.number().min(1) }))];`,
  ),
];
