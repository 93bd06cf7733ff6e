/**
 * The chart. Helm is no npm package: where Go and Debian's golang-github-masterminds-sprig-dev and
 * golang-k8s-sigs-yaml-dev are, tools/helm-template renders it as Helm does, and elsewhere those tests say that they are skipped.
 */

import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Ajv, type ValidateFunction } from 'ajv';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { type LeaseRequest, leaseEvents } from '../../triggers/database/event-store.ts';
import { run } from '../cli/support.ts';
import { ADMIN_KEY, startTestPostern, type TestPostern } from '../server/support.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { databaseTrigger, installFunction } from '../triggers/database/support.ts';
import { drainSeconds, SECRET_VARIABLES, serverVariables } from './support.ts';

const execute = promisify(execFile);
const CHART = 'deploy/helm/postern';
const chartFile = (name: string) => readFileSync(join(CHART, name), 'utf8');
const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
const dockerfile = readFileSync('deploy/Dockerfile', 'utf8');
const values = parse(chartFile('values.yaml')) as Record<string, unknown>;
const schema = JSON.parse(chartFile('values.schema.json')) as {
  properties: { env: { propertyNames: { anyOf: [{ enum: string[] }, object] } } };
};

const GO_PACKAGES = '/usr/share/gocode';
const why = missingForRendering();
if (why !== '') console.warn(`the chart is not rendered: ${why}`);
const hasYamllint = spawnSync('yamllint', ['--version']).status === 0;

describe('the chart’s values', () => {
  let valid: ValidateFunction;
  beforeAll(() => {
    valid = new Ajv({ allErrors: true, strict: true }).compile(schema);
  });
  const withChange = (change: Record<string, unknown>) => ({ ...values, ...change });

  test('fit their schema', () => {
    expect(valid(values), JSON.stringify(valid.errors)).toBe(true);
  });

  test.each([
    ['a value that there is not', { replicas: 3 }],
    ['no node', { replicaCount: 0 }],
    ['a secret in the open', { env: { POSTERN_ADMIN_KEY: 'an-admin-key-for-all' } }],
    ['a database with its password', { env: { DATABASE_URL: 'postgres://u:p@h/d' } }],
    ['another port than the Service’s', { env: { POSTERN_PORT: '9999' } }],
    ['a variable that no node reads', { env: { POSTERN_EXECUTER: '2' } }],
    ['a name of a variable that is YAML', { env: { 'POSTERN_VAR_A: b\n': '2' } }],
    ['a number, which Helm would write as 1e+06', { env: { POSTERN_EVENT_LEASE_MS: 1_000_000 } }],
    ['no Secret', { existingSecret: '' }],
    ['a Secret that is YAML', { existingSecret: 'a\nb: c' }],
    ['a stop at once', { preStopSeconds: 0 }],
    ['no node for schedules', { keda: { enabled: true, minReplicas: 0 } }],
  ])('are refused with %s', (_, change) => {
    expect(valid(withChange(change))).toBe(false);
  });

  test('have every variable that a node reads and that is no secret, host, port or folder', () => {
    const fixed = ['POSTERN_HOST', 'POSTERN_PORT', 'POSTERN_DATA_DIR'];
    const free = serverVariables().difference(new Set([...SECRET_VARIABLES, ...fixed]));
    expect(schema.properties.env.propertyNames.anyOf[0].enum).toEqual([...free].sort());
    expect(new Set([...SECRET_VARIABLES, ...fixed]).difference(serverVariables())).toEqual(new Set());
  });

  test('belong to the version of the package', () => {
    expect(parse(chartFile('Chart.yaml'))).toMatchObject({ version: manifest.version, appVersion: manifest.version });
  });
});

describe('a node behind the chart', () => {
  let db: TestDatabase;
  let postern: TestPostern;
  beforeAll(async () => {
    db = await createTestDatabase();
    postern = await startTestPostern(db);
  });
  afterAll(async () => {
    await postern.stop();
    await db.drop();
  });

  test('answers its probes without a key, and Prometheus with one', async () => {
    const paths = [...chartFile('templates/deployment.yaml').matchAll(/httpGet:\s+path: (\S+)/g)].map(
      ([, path]) => path!,
    );
    expect(paths).toHaveLength(3);
    for (const path of paths) expect([path, (await postern.call(path)).status]).toEqual([path, 200]);
    const [, metrics] = /path: (\S+)/.exec(chartFile('templates/servicemonitor.yaml'))!;
    expect((await postern.call(metrics!)).status).toBe(401);
    const scraped = await postern.call(metrics!, { headers: { authorization: `Bearer ${ADMIN_KEY}` } });
    expect(await scraped.text()).toContain('postern_events_oldest_seconds 0');
  });

  test('has functions and nothing of the control API below the path that the Ingress lets in', async () => {
    const { paths } = values.ingress as { paths: string[] };
    const document = (await (await postern.call('/openapi.json')).json()) as { paths: Record<string, unknown> };
    const control = Object.keys(document.paths);
    expect(control).toEqual(expect.arrayContaining(['/functions', '/secrets', '/audit']));
    for (const path of control) {
      const below = `${paths[0]}${path.replaceAll(/\{\w+\}/g, 'x')}`;
      expect(await postern.admin('GET', below)).toMatchObject({ body: { code: expect.stringMatching(/NOT_FOUND$/) } });
    }
  });
});

describe('the query that nodes are scaled by', () => {
  const query = chartFile('oldest-event.sql');
  const node = '00000000-0000-4000-8000-000000000001';
  let db: TestDatabase;
  beforeAll(async () => {
    db = await createTestDatabase();
    await db.pool.query('create table things (id int)');
  });
  afterAll(() => db.drop());

  const age = async () => Number((await db.pool.query<[string]>({ text: query, rowMode: 'array' })).rows[0]![0]);
  const lease = (): Promise<readonly unknown[]> => {
    const request: LeaseRequest = { nodeId: node, leaseMs: 60_000, limit: 10, quotas: new Map(), otherwise: 10 };
    return leaseEvents(db.pool, request);
  };

  test.each([
    ['waits', '', true],
    ['runs', `leased_by = '${node}', lease_expires_at = now() + interval '1 minute'`, false],
    ['was leased by a node that died', `leased_by = '${node}', lease_expires_at = now() - interval '1 s'`, true],
    ['is dead', `dead_at = now(), run_at = 'infinity'`, false],
    ['waits for its next try', `run_at = now() + interval '1 minute'`, false],
    ['comes after one of its key that runs', `ordering_key = 'pk'`, false],
  ])('counts an event that %s just as a node would lease it', async (_, change, counts) => {
    const { id } = await installFunction(db.pool, databaseTrigger({ table: 'things' }));
    try {
      if (change.startsWith('ordering_key')) {
        await db.pool.query(`insert into things values (1)`);
        await db.pool.query(
          `update postern.events set ordering_key = 'pk', leased_by = $1, lease_expires_at = now() + interval '1 minute'`,
          [node],
        );
      }
      await db.pool.query('insert into things values (1)');
      await db.pool.query(`update postern.events set run_at = run_at - interval '90 s'`);
      if (change !== '')
        await db.pool.query(`update postern.events set ${change} where seq = (select max(seq) from postern.events)`);
      const seconds = await age();
      if (counts) expect(seconds).toBeGreaterThanOrEqual(90);
      else expect(seconds).toBe(0);
      expect(await lease()).toHaveLength(counts ? 1 : 0);
    } finally {
      await db.pool.query('delete from postern.events');
      await db.pool.query('delete from postern.functions where id = $1', [id]);
      await db.pool.query('drop table things; create table things (id int)');
    }
  });

  test('looks no further into the key than now: dead events, at infinity, cost it nothing', async () => {
    const client = await db.pool.connect();
    try {
      await client.query('begin; set local enable_seqscan = off');
      const { rows } = await client.query<{ 'QUERY PLAN': string }>(`explain ${query}`);
      expect(rows.map((row) => row['QUERY PLAN']).join('\n')).toMatch(/Index Cond: .*run_at <=/);
    } finally {
      await client.query('rollback');
      client.release();
    }
  });

  test('counts nothing of a paused function, and nothing where there is nothing', async () => {
    const { id } = await installFunction(db.pool, databaseTrigger({ table: 'things' }));
    await db.pool.query('insert into things values (1)');
    await db.pool.query(`update postern.events set run_at = run_at - interval '90 s'`);
    expect(await age()).toBeGreaterThanOrEqual(90);
    await db.pool.query('update postern.triggers set enabled = false where function_id = $1', [id]);
    expect(await age()).toBe(0);
    expect(await lease()).toHaveLength(0);
    await db.pool.query('delete from postern.events');
    expect(await age()).toBe(0);
  });
});

// biome-ignore lint/suspicious/noExplicitAny: documents of many kinds, of which each assertion names what it wants.
type Document = any;

interface Rendering {
  readonly text: string;
  readonly notes: string;
  of(kind: string): Document;
  readonly kinds: string[];
}

describe.skipIf(why !== '')(`the rendered chart${why === '' ? '' : `: ${why}`}`, () => {
  let folder: string;
  let binary: string;
  let valid: ValidateFunction;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'postern-helm-'));
    binary = join(folder, 'helm-template');
    const env = { ...process.env, GO111MODULE: 'off', GOPATH: GO_PACKAGES, GOFLAGS: '-trimpath' };
    execFileSync('go', ['build', '-o', binary, './tools/helm-template'], { env });
    valid = new Ajv().compile(schema);
  }, 300_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** Helm checks the values, then renders them. */
  async function render(given: Record<string, unknown> = {}, release = 'shop'): Promise<Rendering> {
    const merged = merge(values, given);
    expect(valid(merged), JSON.stringify(valid.errors)).toBe(true);
    const file = join(folder, 'values.json');
    await writeFile(file, JSON.stringify(given));
    const { stdout } = await execute(binary, ['-f', file, '-release', release, '-namespace', 'prod', CHART]);
    const parts = stdout.split(/^---\n# Source: (\S+)\n/m).slice(1);
    const sources = parts.flatMap((part, index) => (index % 2 === 0 ? [[part, parts[index + 1]!] as const] : []));
    const text = sources.flatMap(([name, part]) => (name === 'NOTES.txt' ? [] : [part])).join('---\n');
    const documents = parseAllDocuments(text, { uniqueKeys: true });
    expect(documents.flatMap(({ errors, warnings }) => [...errors, ...warnings])).toEqual([]);
    const objects: Document[] = documents.map((document) => document.toJS());
    return {
      text,
      notes: sources.find(([name]) => name === 'NOTES.txt')![1],
      kinds: objects.map(({ kind }) => kind as string).sort(),
      of: (kind) => objects.find((object) => object.kind === kind),
    };
  }
  const containerOf = (rendering: Rendering): Document => rendering.of('Deployment').spec.template.spec.containers[0];
  const BASE = ['Deployment', 'PodDisruptionBudget', 'Service'];

  const EVERYTHING = {
    env: { POSTERN_JWKS_URL: 'https://auth.example.com/jwks.json', POSTERN_VAR_GREETING: 'hi' },
    existingSecret: 'their-secret',
    imagePullSecrets: [{ name: 'registry' }],
    ingress: {
      enabled: true,
      className: 'nginx',
      host: 'fn.example.com',
      tlsSecret: 'fn-tls',
      annotations: { a: 'b' },
    },
    serviceMonitor: { enabled: true, labels: { release: 'prometheus' }, keySecret: { name: 'scrape', key: 'KEY' } },
    keda: { enabled: true, maxReplicas: 7, oldestEventSeconds: 30 },
    podAnnotations: { 'example.com/team': 'shop' },
    nodeSelector: { 'kubernetes.io/arch': 'amd64' },
    tolerations: [{ key: 'spot', operator: 'Exists' }],
    affinity: { nodeAffinity: {} },
    service: { annotations: { c: 'd' } },
  };

  test.each([
    ['as it is', {}, BASE],
    ['with an Ingress', { ingress: { enabled: true, host: 'fn.example.com' } }, [...BASE, 'Ingress']],
    ['with a ServiceMonitor', { serviceMonitor: { enabled: true } }, [...BASE, 'ServiceMonitor']],
    ['with KEDA', { keda: { enabled: true } }, [...BASE, 'ScaledObject']],
    ['with everything', EVERYTHING, [...BASE, 'Ingress', 'ScaledObject', 'ServiceMonitor']],
  ])(
    '%s has its objects, in the release’s namespace, with selectors that meet the pods’ labels',
    async (_, given, kinds) => {
      const rendering = await render(given);
      expect(rendering.kinds).toEqual([...kinds].sort());
      const deployment = rendering.of('Deployment');
      const { labels } = deployment.spec.template.metadata;
      const selectors = [
        deployment.spec.selector.matchLabels,
        deployment.spec.template.spec.topologySpreadConstraints[0].labelSelector.matchLabels,
        rendering.of('Service').spec.selector,
        rendering.of('PodDisruptionBudget').spec.selector.matchLabels,
      ];
      for (const selector of selectors) {
        expect(selector).toEqual({ 'app.kubernetes.io/name': 'postern', 'app.kubernetes.io/instance': 'shop' });
        expect(labels).toMatchObject(selector);
      }
      for (const kind of kinds)
        expect(rendering.of(kind).metadata).toMatchObject({ name: 'shop-postern', namespace: 'prod' });
      expect(rendering.of('Service').spec.ports[0].targetPort).toBe(containerOf(rendering).ports[0].name);
      expect(rendering.notes).toContain('deployment/shop-postern');
      expect(rendering.notes).not.toMatch(/[{}]|no value/);
    },
  );

  test('runs nodes without rights over a root file system that nobody writes', async () => {
    const rendering = await render();
    const pod = rendering.of('Deployment').spec.template.spec;
    expect(pod).toMatchObject({
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
    });
    expect(containerOf(rendering).securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    expect(pod.volumes).toBeUndefined();
  });

  test('gives a node its command, port and probes, and longer to stop than it takes', async () => {
    const rendering = await render({ preStopSeconds: 12 });
    const container = containerOf(rendering);
    const { stdout } = await run([...container.args, '--help']);
    expect(stdout).toContain('Usage: postern serve ');
    expect(container.command).toBeUndefined();
    const port = container.ports[0].containerPort as number;
    expect(dockerfile).toContain(`\nEXPOSE ${port}\n`);
    expect(container.env).toContainEqual({ name: 'POSTERN_PORT', value: String(port) });
    expect(
      [container.startupProbe, container.livenessProbe, container.readinessProbe].map(({ httpGet }) => httpGet),
    ).toEqual(['/health', '/health', '/ready'].map((path) => ({ path, port: 'http' })));
    const { terminationGracePeriodSeconds: grace } = rendering.of('Deployment').spec.template.spec;
    expect(container.lifecycle).toEqual({ preStop: { sleep: { seconds: 12 } } });
    expect(grace - 12).toBeGreaterThan(drainSeconds());
  });

  test('takes every secret from the Secret that is named, and repeats none', async () => {
    const rendering = await render({ existingSecret: 'their-secret' });
    const { env, args } = containerOf(rendering);
    for (const name of SECRET_VARIABLES)
      expect(env).toContainEqual({
        name,
        valueFrom: {
          secretKeyRef: {
            name: 'their-secret',
            key: name,
            ...(/_PREVIOUS$|_S3_/.test(name) ? { optional: true } : {}),
          },
        },
      });
    expect(args).toEqual(['serve']);
    expect(rendering.kinds).not.toContain('ConfigMap');
    expect(rendering.kinds).not.toContain('Secret');
    const names = env.map(({ name }: Document) => name as string);
    expect(new Set(names).size).toBe(names.length);
    expect(new Set(names).difference(serverVariables())).toEqual(new Set());
  });

  test('wants no JWT secret where there is a JWKS', async () => {
    const { env } = containerOf(await render(EVERYTHING));
    expect(env.find(({ name }: Document) => name === 'POSTERN_JWT_SECRET').valueFrom.secretKeyRef.optional).toBe(true);
  });

  test('leaves the number of nodes to KEDA where it is on, which counts what the query counts', async () => {
    expect((await render({ replicaCount: 3 })).of('Deployment').spec.replicas).toBe(3);
    const rendering = await render(EVERYTHING);
    expect(rendering.of('Deployment').spec).not.toHaveProperty('replicas');
    const { spec } = rendering.of('ScaledObject');
    expect(spec).toMatchObject({ minReplicaCount: 2, maxReplicaCount: 7, scaleTargetRef: { name: 'shop-postern' } });
    const [trigger] = spec.triggers;
    expect(trigger).toMatchObject({ type: 'postgresql', metricType: 'Value' });
    expect(trigger.metadata).toMatchObject({ connectionFromEnv: 'DATABASE_URL', targetQueryValue: '30' });
    expect(trigger.metadata.query.trim()).toBe(chartFile('oldest-event.sql').trim());
    expect(containerOf(rendering).name).toBe(spec.scaleTargetRef.envSourceContainerName);
  });

  test('lets Prometheus in with the key of a Secret', async () => {
    const [endpoint] = (await render(EVERYTHING)).of('ServiceMonitor').spec.endpoints;
    expect(endpoint).toMatchObject({ port: 'http', path: '/metrics' });
    expect(endpoint.authorization.credentials).toEqual({ name: 'scrape', key: 'KEY' });
    const [usual] = (await render({ serviceMonitor: { enabled: true } })).of('ServiceMonitor').spec.endpoints;
    expect(usual.authorization.credentials).toEqual({ name: 'postern', key: 'POSTERN_ADMIN_KEY' });
  });

  test('an Ingress without a host is refused, saying which value is missing', async () => {
    await expect(render({ ingress: { enabled: true } })).rejects.toThrow('ingress.host is the name');
  });

  test.each([
    '"',
    "'",
    '\n  evil: true\n',
    '#',
    '{{ .Values }}',
    '*x',
    '%',
    'no',
    '0123',
    '1e3',
    'a: b',
    '\\',
    '$(POSTERN_ADMIN_KEY)',
    '😀',
  ])('values that hold %j come as they are', async (hostile) => {
    const rendering = await render({
      image: { repository: `r${hostile}`, tag: hostile },
      env: { POSTERN_VAR_A: hostile, POSTERN_CORS_ORIGINS: `https://a${hostile}` },
      imagePullSecrets: [{ name: hostile }],
      service: { annotations: { [hostile]: hostile } },
      ingress: {
        enabled: true,
        host: 'h',
        className: hostile,
        tlsSecret: hostile,
        annotations: { [hostile]: hostile },
        paths: [`/${hostile}`],
      },
      serviceMonitor: {
        enabled: true,
        labels: { [`l${hostile}`]: hostile },
        keySecret: { name: hostile, key: hostile },
      },
      podAnnotations: { [hostile]: hostile },
      nodeSelector: { [hostile]: hostile },
    });
    expect(rendering.kinds).toEqual([...BASE, 'Ingress', 'ServiceMonitor'].sort());
    const container = containerOf(rendering);
    expect(container.image).toBe(`r${hostile}:${hostile}`);
    // Kubernetes makes $ of $$, and of $(NAME) what that variable has.
    const escaped = hostile.replaceAll('$', '$$$$');
    expect(container.env).toContainEqual({ name: 'POSTERN_VAR_A', value: escaped });
    expect(container.env).toContainEqual({ name: 'POSTERN_CORS_ORIGINS', value: `https://a${escaped}` });
    const { template } = rendering.of('Deployment').spec;
    expect(template.metadata.annotations).toEqual({ [hostile]: hostile });
    expect(template.spec.nodeSelector).toEqual({ [hostile]: hostile });
    expect(template.spec.imagePullSecrets).toEqual([{ name: hostile }]);
    const ingress = rendering.of('Ingress');
    expect(ingress.spec.ingressClassName).toBe(hostile);
    expect(ingress.spec.tls).toEqual([{ hosts: ['h'], secretName: hostile }]);
    expect(ingress.spec.rules[0].http.paths[0].path).toBe(`/${hostile}`);
    expect(ingress.metadata.annotations).toEqual({ [hostile]: hostile });
    expect(rendering.of('ServiceMonitor').metadata.labels[`l${hostile}`]).toBe(hostile);
    expect(rendering.of('ServiceMonitor').spec.endpoints[0].authorization.credentials).toEqual({
      name: hostile,
      key: hostile,
    });
  });

  test.skipIf(!hasYamllint)(
    `has no finding of yamllint${hasYamllint ? '' : ': skipped, it is not installed'}`,
    async () => {
      const file = join(folder, 'rendered.yaml');
      await writeFile(file, (await render(EVERYTHING)).text);
      expect(lint(file)).toBe('');
    },
  );
});

test.skipIf(!hasYamllint)(
  `yamllint finds nothing in what people edit${hasYamllint ? '' : ': skipped, it is not installed'}`,
  () => {
    expect(lint(join(CHART, 'values.yaml'), join(CHART, 'Chart.yaml'), 'deploy/compose.yaml')).toBe('');
  },
);

/** Empty where the chart can be rendered. */
function missingForRendering(): string {
  const missing = ['github.com/Masterminds/sprig', 'sigs.k8s.io/yaml'].filter(
    (name) => !existsSync(join(GO_PACKAGES, 'src', name)),
  );
  if (spawnSync('go', ['version']).status !== 0) missing.unshift('go');
  return missing.length === 0 ? '' : `skipped, this machine has no ${missing.join(', ')}`;
}

/** Empty lines between documents are Helm's own. */
function lint(...files: string[]): string {
  const rules = '{line-length: {max: 140}, document-start: disable, empty-lines: disable}';
  return spawnSync('yamllint', ['-d', `{extends: default, rules: ${rules}}`, ...files], { encoding: 'utf8' }).stdout;
}

function merge(base: Record<string, unknown>, over: Record<string, unknown>): Record<string, unknown> {
  const isMap = (value: unknown): value is Record<string, unknown> =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  const merged = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const known = merged[key];
    merged[key] = isMap(known) && isMap(value) ? merge(known, value) : value;
  }
  return merged;
}
