import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { ERROR_CODES } from '../../runtime/index.ts';
import { HTTP_STATUS } from '../../server/http-errors.ts';

const ROW = /^\| `([A-Z_]+)` +\| (\d+) +\| (\w+) +\| (yes|no) +\| (.+?) +\|$/gm;

test('docs/errors.md lists every code with its status, fault, retry and meaning', () => {
  const page = readFileSync(resolve('docs/errors.md'), 'utf8');
  const documented = [...page.matchAll(ROW)].map(([, code, status, fault, retried, text]) => ({
    code,
    status: Number(status),
    fault,
    retryable: retried === 'yes',
    text,
  }));
  const defined = Object.entries(ERROR_CODES).map(([code, { fault, retryable, text }]) => ({
    code,
    status: HTTP_STATUS[code as keyof typeof HTTP_STATUS],
    fault,
    retryable,
    text,
  }));
  expect(documented).toEqual(defined);
});
