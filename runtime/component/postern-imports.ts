/** The interfaces of `wit/function.wit`, on the operations that the node answers. */

import { bytesOf, type ComponentHost, type HostRefusal, type ImportedInterfaces, textOf } from './wasi/host.ts';
import { KEPT_BYTES } from './wasi/io.ts';

type Result<T> = { readonly tag: 'ok'; readonly val: T } | { readonly tag: 'err'; readonly val: HostRefusal };

interface FetchRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body?: Uint8Array | undefined;
}

interface FetchResponse {
  readonly status: number;
  readonly headers: [string, string][];
  readonly bodyBase64: string;
}

export function posternImports(host: ComponentHost): ImportedInterfaces {
  const call = <T>(operation: string, payload: string, read: (answer: string) => T): Promise<Result<T>> => {
    let answered: readonly [ok: boolean, text: string] | undefined;
    return host.wait(
      (done) => {
        host.ask(operation, payload, (...answer) => {
          answered = answer;
          done();
        });
        return () => {};
      },
      () => {
        const [ok, text] = answered as readonly [boolean, string];
        return ok ? { tag: 'ok', val: read(text) } : { tag: 'err', val: refusalFrom(text) };
      },
    );
  };
  const query = (sql: string, params: string, tx?: number): Promise<Result<string>> =>
    call('db.query', queryPayload(textOf(host, sql), textOf(host, params), tx), (answer) => answer);

  class Transaction {
    readonly #tx: number;

    constructor(tx: number) {
      host.keep(KEPT_BYTES);
      this.#tx = tx;
    }

    static begin(): Promise<Result<Transaction>> {
      return call('db.begin', '{}', (answer) => new Transaction((JSON.parse(answer) as { tx: number }).tx));
    }

    query(sql: string, params: string): Promise<Result<string>> {
      return query(sql, params, this.#tx);
    }

    commit(): Promise<Result<undefined>> {
      return call('db.commit', `{"tx":${this.#tx}}`, () => undefined);
    }

    rollback(): Promise<Result<undefined>> {
      return call('db.rollback', `{"tx":${this.#tx}}`, () => undefined);
    }
  }

  return {
    'postern:function/types': {},
    'postern:function/database': { query: (sql: string, params: string) => query(sql, params), Transaction },
    'postern:function/logging': {
      log: (level: string, message: string, fields: string) =>
        host.log(textOf(host, level), textOf(host, message), textOf(host, fields)),
    },
    'postern:function/environment': {
      get: (name: string) => host.environ.find(([known]) => known === name)?.[1],
    },
    'postern:function/http': {
      fetch: (request: FetchRequest) => {
        if (request.body !== undefined) bytesOf(host, request.body);
        return call('http.fetch', fetchPayload(request), readResponse);
      },
    },
  };
}

/** params goes as the guest wrote it, so that no number is rounded; the payload is the guest's own anyway. */
function queryPayload(sql: string, params: string, tx: number | undefined): string {
  const where = tx === undefined ? '' : `"tx":${tx},`;
  return `{"sql":${JSON.stringify(sql)},${where}"params":${params.trim() === '' ? '[]' : params}}`;
}

export function fetchPayload({ method, url, headers, body }: FetchRequest): string {
  const bodyBase64 = body === undefined ? null : Buffer.from(body).toString('base64');
  return JSON.stringify({ url, method, headers, bodyBase64, redirect: 'follow' });
}

export function readResponse(answer: string): { status: number; headers: [string, string][]; body: Uint8Array } {
  const { status, headers, bodyBase64 } = JSON.parse(answer) as FetchResponse;
  return { status, headers, body: Buffer.from(bodyBase64, 'base64') };
}

/** Only what the record has: a refusal may say more. */
function refusalFrom(json: string): HostRefusal {
  const { name, message, code } = JSON.parse(json) as Partial<HostRefusal>;
  return { name: String(name), message: String(message), code: String(code ?? '') };
}
