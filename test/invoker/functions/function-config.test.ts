import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  configFromJson,
  configToJson,
  mergeConfigs,
  nameFromFile,
  parseFunctionConfig,
} from '../../../invoker/function-config.ts';
import { parseManifest } from '../../../invoker/functions/manifest.ts';
import { splitTable, triggerWarnings } from '../../../invoker/functions/trigger-config.ts';
import { PosternError } from '../../../runtime/index.ts';
import { Stopwatch } from '../../support/timed.ts';

const parse = (raw: Record<string, unknown>) => parseFunctionConfig({ name: 'f', ...raw });

function refusal(raw: unknown): PosternError {
  try {
    parseFunctionConfig(raw);
  } catch (error) {
    expect(error).toBeInstanceOf(PosternError);
    expect((error as PosternError).code).toBe('INVALID_FUNCTION');
    return error as PosternError;
  }
  throw new Error('it was accepted');
}

describe('defaults and aliases', () => {
  test('a name alone gives every default of the table', () => {
    expect(parse({})).toEqual({
      name: 'f',
      language: 'javascript',
      handler: 'handler',
      triggers: [{ type: 'http' }],
      timeoutMs: 10_000,
      memoryBytes: 128 * 2 ** 20,
      cpu: 10_000_000_000,
      env: [],
      http: { allow: [], secrets: [], rateLimit: { requests: 100, windowMs: 10_000 } },
      db: { role: 'invoker' },
      auth: 'required',
      retry: { maxAttempts: 5, backoff: { initialMs: 1_000, factor: 2, maxMs: 300_000 } },
      concurrency: null,
    });
  });

  test.each([
    [true, { record: true }],
    ['failures', { record: 'failures' }],
    [false, {}],
  ])('what is recorded: %j', (record, expected) => {
    const { name, ...config } = parseFunctionConfig({ name: 'a', record });
    const { name: _, ...plain } = parseFunctionConfig({ name: 'a' });
    expect(config).toEqual({ ...plain, ...expected });
    expect('record' in plain).toBe(false);
    expect(() => parseFunctionConfig({ name, record: 'errors' })).toThrow("allowed: true, false or 'failures'");
  });

  test('every alias means its field', () => {
    const config = parseFunctionConfig({
      id: 'greet',
      languageId: 'js',
      functionName: 'main',
      trigger: { type: 'http' },
      timeoutMillis: 2_500,
    });
    expect(config).toMatchObject({ name: 'greet', language: 'javascript', handler: 'main', timeoutMs: 2_500 });
  });

  test('an alias beside its field is refused when they differ and accepted when they agree', () => {
    expect(parseFunctionConfig({ name: 'a', id: 'a' }).name).toBe('a');
    expect(refusal({ name: 'a', id: 'b' }).message).toContain("one value for 'name'");
  });

  test('the configuration is deeply frozen', () => {
    const config = parse({ env: ['A'], triggers: { type: 'database', table: 'users' } });
    expect(Object.isFrozen(config)).toBe(true);
    expect(Object.isFrozen(config.env)).toBe(true);
    expect(Object.isFrozen(config.triggers[0])).toBe(true);
  });

  test('name and language come from the file where the configuration is silent', () => {
    expect(parseFunctionConfig({}, { fileName: 'functions/send-mail.ts' })).toMatchObject({
      name: 'send-mail',
      language: 'typescript',
    });
    expect(nameFromFile('orders.function.jsonc')).toBe('orders');
    expect(nameFromFile('functions/orders/index.ts')).toBe('orders');
  });
});

describe('units', () => {
  test.each([
    ['10s', 10_000],
    ['1500ms', 1_500],
    ['5m', 300_000],
    ['1.5s', 1_500],
    [2_000, 2_000],
  ])('timeout %j is %d ms', (timeout, expected) => {
    expect(parse({ timeout }).timeoutMs).toBe(expected);
  });

  test.each([
    ['128MB', 128 * 2 ** 20],
    ['16 mib', 16 * 2 ** 20],
    ['65536KB', 64 * 2 ** 20],
    [512 * 2 ** 20, 512 * 2 ** 20],
  ])('memory %j is %d bytes', (memory, expected) => {
    expect(parse({ memory }).memoryBytes).toBe(expected);
  });

  test.each([
    ['10'],
    ['10 parsecs'],
    [''],
    [true],
    [Number.NaN],
    [1.5],
    ['301s'],
    ['999ms'],
    [-1],
    ['1e4ms'],
    ['constructor'],
  ])('timeout %j is refused with what is allowed', (timeout) => {
    expect(refusal({ name: 'f', timeout }).message).toMatch(
      /timeout: .* was given; allowed: a duration from 1 s to 300 s/,
    );
  });

  test.each([[128], ['15MB'], ['513MB'], ['1 constructor']])('memory %j is refused', (memory) => {
    expect(refusal({ name: 'f', memory }).message).toContain('a size from 16 MB to 512 MB');
  });

  test('cpu is a number of instructions or unlimited', () => {
    expect(parse({ cpu: 5_000_000 }).cpu).toBe(5_000_000);
    expect(parse({ cpu: 'unlimited' }).cpu).toBe(Number.POSITIVE_INFINITY);
    expect(refusal({ name: 'f', cpu: 0 }).message).toContain("'unlimited'");
    expect(refusal({ name: 'f', cpu: 'lots' }).message).toContain("'unlimited'");
  });
});

describe('refusals name the field, what was given and what is allowed', () => {
  test('an unknown field suggests the closest one', () => {
    expect(refusal({ name: 'f', timout: '5s' }).message).toContain("did you mean 'timeout'?");
    expect(refusal({ name: 'f', langageId: 'js' }).message).toContain("did you mean 'languageId'?");
  });

  test('nested unknown fields are named by their path', () => {
    expect(refusal({ name: 'f', http: { allows: [] } }).message).toContain('http.allows: an unknown field');
    expect(refusal({ name: 'f', db: { user: 'x' } }).message).toContain('db.user: an unknown field');
  });

  test('all problems are listed at once, and details carry them', () => {
    const error = refusal({ name: 'F!', auth: 'maybe', concurrency: 0 });
    expect(error.message).toContain('name: "F!" was given');
    expect(error.message).toContain("auth: \"maybe\" was given; allowed: 'required', 'optional' or 'none'");
    expect(error.message).toContain('concurrency: 0 was given');
    expect(error.details?.problems).toHaveLength(3);
  });

  test.each(['', 'Upper', '9lives', 'a'.repeat(64), 'a/b', '../x', 'a b', 'ünder', 'invoke', 'webhook', '__proto__'])(
    'the name %j is refused',
    (name) => {
      expect(refusal({ name }).message).toContain('name: ');
    },
  );

  test('a language that is none is refused with those that there are', () => {
    expect(refusal({ name: 'f', language: 'cobol' }).message).toContain('"javascript"');
  });

  test.each([
    ['*.com'],
    ['*.co.uk'],
    ['a.com:70000'],
    ['a.com:0'],
    ['*'],
    ['https://*'],
    ['a b.com'],
    ['http://x/path'],
    ['user@host'],
    [''],
    [7],
  ])('http.allow entry %j is refused', (entry) => {
    expect(refusal({ name: 'f', http: { allow: [entry] } }).message).toContain('http.allow[0]');
  });

  test('http.secrets is a list of names, each once; none of them has to exist', () => {
    expect(parse({ http: { secrets: ['STRIPE_KEY', 'B', 'STRIPE_KEY'] } }).http.secrets).toEqual(['STRIPE_KEY', 'B']);
  });

  test.each([
    ['STRIPE_KEY'],
    [['A-B']],
    [['']],
    [['1A']],
    [['A'.repeat(129)]],
    [[7]],
    [{ A: 1 }],
    [Array.from({ length: 33 }, (_, index) => `S${index}`)],
  ])('http.secrets %j is refused', (secrets) => {
    const { message } = refusal({ name: 'f', http: { secrets } });
    expect(message).toContain('http.secrets');
    expect(message).toContain('a list of at most 32 names of secrets');
  });

  test('a version that was stored before http.secrets has none', () => {
    const { http, ...rest } = JSON.parse(configToJson(parse({ http: { allow: ['a.com'] } })));
    const { secrets: _, ...before } = http;
    expect(configFromJson({ ...rest, http: before }).http).toEqual({ ...before, secrets: [] });
  });

  test('__proto__ and constructor are unknown fields like any other', () => {
    expect(refusal(JSON.parse('{"name":"f","__proto__":{"auth":"none"}}')).message).toContain(
      '__proto__: an unknown field',
    );
    expect(refusal({ name: 'f', constructor: 1 }).message).toContain('constructor: an unknown field');
  });

  test('whatever is given, the answer is a configuration or INVALID_FUNCTION', () => {
    const key = fc.oneof(
      fc.string(),
      fc.constantFrom('timeout', 'memory', 'http', 'triggers', 'retry', 'env', 'cpu', 'db'),
    );
    fc.assert(
      fc.property(fc.dictionary(key, fc.jsonValue()), (raw) => {
        try {
          parseFunctionConfig({ ...raw, name: 'f' });
        } catch (error) {
          expect((error as PosternError).code).toBe('INVALID_FUNCTION');
        }
      }),
    );
  });
});

describe('triggers', () => {
  test('one trigger or a list of them', () => {
    expect(parse({ trigger: 'http' }).triggers).toEqual([{ type: 'http' }]);
    expect(parse({ triggers: [{ type: 'http' }, { type: 'database', table: 'users' }] }).triggers).toHaveLength(2);
  });

  test('a database trigger defaults to schema public and all three operations', () => {
    expect(parse({ trigger: { type: 'database', table: 'users' } }).triggers).toEqual([
      {
        type: 'database',
        schema: 'public',
        table: 'users',
        operations: ['INSERT', 'UPDATE', 'DELETE'],
        columns: [],
        when: null,
      },
    ]);
  });

  test('events is another name for operations, in any case, without repeats', () => {
    const trigger = {
      type: 'database',
      table: 'app.users',
      events: ['update', 'INSERT', 'Update'],
      columns: ['email'],
      when: 'new.email is not null',
    };
    expect(parse({ trigger }).triggers).toEqual([
      {
        type: 'database',
        schema: 'app',
        table: 'users',
        operations: ['INSERT', 'UPDATE'],
        columns: ['email'],
        when: 'new.email is not null',
      },
    ]);
  });

  test.each([
    ['users', { schema: 'public', table: 'users' }],
    ['app.users', { schema: 'app', table: 'users' }],
    ['"My App"."We.ird""T"', { schema: 'My App', table: 'We.ird"T' }],
    ['app."Order Items"', { schema: 'app', table: 'Order Items' }],
    ['a.b.c', undefined],
    ['a.', undefined],
    ['', undefined],
    ['"open', undefined],
    ['x'.repeat(64), undefined],
  ])('the table %j is read as %j', (text, expected) => {
    expect(splitTable(text)).toEqual(expected);
  });

  test('with schema given, the table is taken as it is', () => {
    expect(parse({ trigger: { type: 'database', schema: 's', table: 'a.b"c' } }).triggers[0]).toMatchObject({
      schema: 's',
      table: 'a.b"c',
    });
  });

  test('a webhook has the default scheme and answers 202; one secret is a list of one', () => {
    expect(parse({ trigger: { type: 'webhook', secret: 'HOOK_SECRET' } }).triggers).toEqual([
      { type: 'webhook', scheme: 'hmac-sha256', secrets: ['HOOK_SECRET'], respond: 'accepted' },
    ]);
    const stripe = { type: 'webhook', scheme: 'stripe', secrets: ['NEW', 'OLD', 'NEW'], respond: 'result' };
    expect(parse({ triggers: ['http', stripe] }).triggers).toEqual([
      { type: 'http' },
      { ...stripe, secrets: ['NEW', 'OLD'] },
    ]);
  });

  test.each([
    { type: 'database', table: 't' },
    { type: 'schedule', cron: '@daily' },
    { type: 'webhook', secret: 'A' },
  ])('a $type trigger has a retry policy and a function for dead letters, or says nothing of them', (trigger) => {
    const retry = { maxAttempts: 3, backoff: 'fixed', maxAge: '1h', on: { timeout: { maxAttempts: 1 } } };
    expect(parse({ trigger: { ...trigger, retry, deadLetter: 'undertaker' } }).triggers[0]).toMatchObject({
      retry: {
        maxAttempts: 3,
        backoff: { initialMs: 1_000, factor: 1, maxMs: 300_000 },
        maxAgeMs: 3_600_000,
        on: { timeout: { maxAttempts: 1 } },
      },
      deadLetter: 'undertaker',
    });
    const plain = Object.keys(parse({ trigger }).triggers[0]!);
    expect(plain).not.toContain('retry');
    expect(plain).not.toContain('deadLetter');
  });

  test.each([
    [{ type: 'databse' }, "'http', 'database', 'schedule' or 'webhook'"],
    [{ type: 'http', path: '/x' }, 'trigger.path: an unknown field'],
    [{ type: 'database' }, 'trigger.table'],
    [{ type: 'database', table: 't', events: ['TRUNCATE'] }, "'INSERT', 'UPDATE', 'DELETE'"],
    [{ type: 'database', table: 't', operations: [] }, "'INSERT', 'UPDATE', 'DELETE'"],
    [{ type: 'database', table: 't', tabel: 'x' }, "did you mean 'table'?"],
    [
      { type: 'database', table: 't', operations: ['INSERT'], columns: ['a'] },
      "columns only with the operation 'UPDATE'",
    ],
    [{ type: 'database', table: 't', when: ' ' }, 'an SQL condition'],
    [{ type: 'database', table: 't', orderingKey: [] }, 'trigger.orderingKey'],
    [{ type: 'database', table: 't', poisoned: 'skip' }, 'this only beside orderingKey'],
    [{ type: 'database', table: 't', transaction: true, batch: { maxSize: 5 } }, 'batch or transaction, not both'],
    [{ type: 'database', table: 't', transaction: true, orderingKey: 'id' }, 'orderingKey or transaction, not both'],
    [{ type: 'database', table: 't', batch: { maxSize: 1 } }, 'maxSize: 2 to 1000'],
    [{ type: 'database', table: 't', format: 'aws' }, "'hasura'"],
    [{ type: 'database', table: 't', retry: { on: { timeout: { maxAttempts: 0 } } } }, 'a whole number from 1 to 100'],
    [{ type: 'database', table: 't', deadLetter: 'No Name' }, 'the name of a function'],
    [{ type: 'schedule', cron: '@daily', retry: { maxAttempts: 0 } }, 'trigger.retry.maxAttempts: 0 was given'],
    [{ type: 'schedule', cron: '@daily', deadLetter: 'No Name' }, 'the name of a function'],
    [{ type: 'schedule', cron: '@daily', deadletter: 'x' }, "did you mean 'deadLetter'?"],
    [{ type: 'webhook', secret: 'A', retry: { backoff: 'linear' } }, "'exponential', 'fixed'"],
    [{ type: 'webhook', secret: 'A', deadLetter: 1 }, 'the name of a function'],
    [{ type: 'webhook', secret: 'A', respond: 'result', retry: {} }, 'trigger.retry: {} was given'],
    [{ type: 'webhook', secret: 'A', respond: 'result', deadLetter: 'x' }, "this only with respond: 'accepted'"],
    [42, "an object with a type: 'http', 'database', 'schedule' or 'webhook'"],
    [{ type: 'webhook' }, 'trigger.secret: nothing was given; allowed: the name of a secret'],
    [{ type: 'webhook', secret: 'A', secrets: ['B'] }, 'secret beside secrets'],
    [{ type: 'webhook', secret: 'whsec_abc=' }, 'the name of a secret'],
    [{ type: 'webhook', secrets: [] }, '1 to 4 names of secrets'],
    [{ type: 'webhook', secrets: ['A', 'B', 'C', 'D', 'E'] }, '1 to 4 names of secrets'],
    [{ type: 'webhook', secret: 'A', scheme: 'sha1' }, "'hmac-sha256', 'github', 'stripe'"],
    [{ type: 'webhook', secret: 'A', respond: 'later' }, "'accepted', 'result'"],
    [{ type: 'webhook', secret: 'A', schema: 'stripe' }, "did you mean 'scheme'?"],
    [
      [
        { type: 'webhook', secret: 'A' },
        { type: 'webhook', secret: 'B' },
      ],
      'triggers: 2 webhook triggers was given; allowed: one webhook trigger',
    ],
  ])('%j is refused', (trigger, text) => {
    expect(refusal({ name: 'f', trigger }).message).toContain(text);
  });
});

describe('schedules', () => {
  const schedule = (fields: object) =>
    parse({ trigger: { type: 'schedule', cron: '0 3 * * *', ...fields } }).triggers[0];

  test('a cron expression alone gives the defaults', () => {
    expect(schedule({ cron: ' 0  3\t* * MON ' })).toEqual({
      type: 'schedule',
      cron: '0 3 * * MON',
      timezone: 'UTC',
      missed: 'once',
      overlap: 'allow',
      jitterMs: 0,
    });
  });

  test('every field is read, and a time zone is spelled as the time zone database does', () => {
    expect(schedule({ timezone: 'europe/berlin', missed: 'all', overlap: 'queue', jitter: '30s' })).toMatchObject({
      timezone: 'Europe/Berlin',
      missed: 'all',
      overlap: 'queue',
      jitterMs: 30_000,
    });
  });

  test.each(['* * * * *', '*/15 0-6/2,22,23 1 jan,Jun-AUG sun', '0 0 29 2 *', '59 23 31 12 5-7', '@daily', '@Weekly'])(
    'CRON-01 the expression %j is accepted',
    (cron) => {
      expect(schedule({ cron })).toMatchObject({ cron });
    },
  );

  const everyMinute = Array.from({ length: 60 }, (_, minute) => minute).join(',');
  test.each([
    ['* * * * * *', 'it has 6 fields, not five'],
    ['* * * *', 'it has 4 fields, not five'],
    ['', 'it has 1 fields'],
    ['@reboot', '@hourly, @daily, @weekly, @monthly, @yearly'],
    ['@constructor', '@hourly'],
    ['*/0 * * * *', "its minute has '*/0', a step that is not from 1 to 60"],
    ['*/90 * * * *', 'a step that is not from 1 to 60'],
    ['60 * * * *', "its minute has '60', which is not within 0 to 59"],
    ['* 24 * * *', 'within 0 to 23'],
    ['* * 0 * *', 'within 1 to 31'],
    ['* * * 13 *', 'within 1 to 12 or JAN to DEC'],
    ['* * * * 8', 'within 0 to 7 or SUN to SAT'],
    ['* * * FRI *', 'within 1 to 12'],
    ['5-1 * * * *', 'runs backwards'],
    ['5/10 * * * *', 'a step, which needs'],
    ['1,,2 * * * *', "its minute has ''"],
    ['-1 * * * *', "its minute has '-1'"],
    ['1.5 * * * *', "its minute has '1.5'"],
    ['* * L * *', "its day of month has 'l'"],
    ['? * * * *', "its minute has '?'"],
    ['H * * * *', "its minute has 'h'"],
    ['* * * * 1#2', "its day of week has '1#2'"],
    ['\u0660 * * * *', 'its minute has'],
    ['* * * * *\n* * * * *', 'fields'],
    [`${'1'.repeat(10_240)} * * * *`, 'it has 10248 characters; at most 300'],
    [`${everyMinute},${everyMinute} * * * *`, 'at most 300'],
    [42, 'five fields'],
    [undefined, 'five fields'],
  ])('CRON-01 the expression %j is refused', (cron, text) => {
    const { message } = refusal({ name: 'f', trigger: { type: 'schedule', cron } });
    expect(message).toMatch(/^trigger\.cron: /);
    expect(message).toContain(text);
    expect(message.length).toBeLessThan(500);
  });

  test.each([
    [{ timezone: 'Europe/Berln' }, 'trigger.timezone: "Europe/Berln" was given'],
    [{ timezone: '+02:00' }, 'a name of the time zone database'],
    [{ timezone: '' }, 'a name of the time zone database'],
    [{ missed: 'never' }, "'skip', 'once' or 'all'"],
    [{ overlap: true }, "'allow', 'skip' or 'queue'"],
    [{ jitter: '2h' }, 'a duration from 0 ms to 1 h'],
    [{ timeZone: 'UTC' }, "did you mean 'timezone'?"],
  ])('a schedule with %j is refused', (fields, text) => {
    expect(refusal({ name: 'f', trigger: { type: 'schedule', cron: '0 3 * * *', ...fields } }).message).toContain(text);
  });

  test.each([
    ['0 0 31 2 *', ["triggers[1].cron: '0 0 31 2 *' never fires, for it names no day that exists"]],
    ['0 0 31 4,6,9,11 *', [expect.stringContaining('never fires')]],
    ['0 0 30,31 2 MON', []],
    ['0 0 29 2 *', []],
  ])('CRON-01 the expression %j is warned of: %j', (cron, warnings) => {
    const { triggers } = parse({ triggers: ['http', { type: 'schedule', cron }] });
    expect(triggerWarnings(triggers)).toEqual(warnings);
  });
});

describe('merging', () => {
  test('the deploy request wins over the manifest, the manifest over the code, field by field', () => {
    const merged = mergeConfigs(
      { name: 'code', timeoutMillis: 1_000, http: { allow: ['a.com'], rateLimit: '1/1s' }, auth: 'none' },
      { id: 'manifest', http: { allow: ['b.com'] } },
      { auth: 'required' },
    );
    expect(parseFunctionConfig(merged)).toMatchObject({
      name: 'manifest',
      timeoutMs: 1_000,
      auth: 'required',
      http: { allow: ['b.com'], rateLimit: { requests: 1, windowMs: 1_000 } },
    });
  });

  test('a stored configuration comes back as it was', () => {
    for (const cpu of ['unlimited', 12_345]) {
      const config = parse({ cpu, retry: { backoff: 'fixed' }, trigger: { type: 'database', table: 't' } });
      expect(configFromJson(JSON.parse(configToJson(config)))).toEqual(config);
    }
  });
});

describe('manifests', () => {
  test('comments and trailing commas are allowed, code is told from configuration', () => {
    const manifest = parseManifest(`{
      // who
      "id": "greet", "sourceFile": "greet.js",
      "dependencies": { "greeter": { "file": "lib/greeter.js" }, "x": { "source": "module.exports = 1" } },
    }`);
    expect(manifest).toEqual({
      config: { id: 'greet' },
      sourceFile: 'greet.js',
      dependencies: { greeter: { file: 'lib/greeter.js' }, x: { source: 'module.exports = 1' } },
    });
  });

  test('jsEvalAsModule says how the code is meant, and is not configuration', () => {
    expect(parseManifest('{"id":"greet","jsEvalAsModule":true}')).toMatchObject({
      config: { id: 'greet' },
      asModule: true,
    });
    expect(parseManifest('{"jsEvalAsModule":false}')).toMatchObject({ config: {}, asModule: false });
    expect(parseManifest('{}')).not.toHaveProperty('asModule');
  });

  test('a syntax error has file, line, column and the line', () => {
    expect(() => parseManifest('{\n  "id": "greet"\n  "auth": "none"\n}', 'greet.function.jsonc')).toThrow(
      /greet\.function\.jsonc:3:3: comma expected\n {2}"auth": "none"/,
    );
  });

  test('one that is nested too deeply, and one of nothing but errors, are refused at once', () => {
    for (const part of ['{"a":', '[']) {
      expect(() => parseManifest(`{"id":"greet","x":${part.repeat(100_000)}`, 'greet.function.jsonc')).toThrow(
        'greet.function.jsonc: it is nested too deeply',
      );
    }
    const watch = new Stopwatch();
    expect(() => parseManifest(`[${','.repeat(3_000_000)}`)).toThrow('manifest:1:2: value expected');
    watch.expectBelow(300);
  });

  test.each([
    ['{"module":"AGF zbQ=="}', 'base64'],
    ['{"module":"AGFzb"}', 'base64'],
    ['{"module":"AGFzbQ==","source":"x"}', 'one of the two'],
    ['{"source":"x","sourceFile":"y"}', 'one of the two'],
    ['{"dependencies":[]}', '{ "name": { "source"'],
    ['{"dependencies":{"a":{"source":"x","file":"y"}}}', 'dependencies.a'],
    ['{"jsEvalAsModule":"yes"}', 'jsEvalAsModule: '],
    ['[]', 'an object'],
    ['', 'manifest'],
  ])('%s is refused', (text, part) => {
    expect(() => parseManifest(text)).toThrow(part);
  });
});
