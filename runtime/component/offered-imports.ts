/** All that a component may import, by interface. Types and sockets aside it is WASI 0.2 and `wit/function.wit`. */

import { posternImports } from './postern-imports.ts';
import type { ComponentHost, ImportedInterfaces } from './wasi/host.ts';
import { type HttpFace, httpFace } from './wasi/http.ts';
import { ioImports } from './wasi/io.ts';
import { systemImports } from './wasi/system.ts';

export interface Offered {
  readonly imports: ImportedInterfaces;
  readonly serveHttp: HttpFace['serve'];
}

/** For one invocation: nothing in it is shared with another. */
export function offerImports(host: ComponentHost): Offered {
  let face: HttpFace | undefined;
  // Most components have no use for its classes.
  const http = (): HttpFace => {
    face ??= httpFace(host);
    return face;
  };
  const imports = {
    ...ioImports(host),
    ...systemImports(host),
    ...posternImports(host),
    get 'wasi:http/types'() {
      return http().types;
    },
    get 'wasi:http/outgoing-handler'() {
      return http().outgoingHandler;
    },
  };
  return { imports, serveHttp: (request) => http().serve(request) };
}

/** Those that may suspend the guest, as the transpiler wants to be told. */
export const SUSPENDING_IMPORTS = [
  'wasi:io/poll#poll',
  'wasi:io/poll#[method]pollable.block',
  'postern:function/database#query',
  'postern:function/database#[static]transaction.begin',
  'postern:function/database#[method]transaction.query',
  'postern:function/database#[method]transaction.commit',
  'postern:function/database#[method]transaction.rollback',
  'postern:function/http#fetch',
] as const;

const VERSIONS: ReadonlyMap<string, RegExp> = new Map([
  ['wasi', /^0\.2\.\d+$/],
  ['postern', /^0\.1\.\d+$/],
]);

/** A host that is never asked: only the names of what is offered are looked at. */
const NOBODY = { environ: [], args: [], stdin: new Uint8Array() } as unknown as ComponentHost;
const OFFERED: ImportedInterfaces = offerImports(NOBODY).imports;

/** What a guest may make with `new`, and functions that WIT calls static. All else of a class is the host's own. */
const OFFERED_CALLS: ReadonlySet<string> = new Set([
  'new Fields',
  'new OutgoingRequest',
  'new OutgoingResponse',
  'new RequestOptions',
  'Fields.fromList',
  'IncomingBody.finish',
  'OutgoingBody.finish',
  'ResponseOutparam.set',
  'Transaction.begin',
]);
/** Why an import, e.g. `wasi:cli/exit@0.2.3`, is not there; undefined where it is. */
export function problemOfImport(name: string): string | undefined {
  const [whole, version] = name.split('@', 2) as [string, string | undefined];
  if (!Object.hasOwn(OFFERED, whole)) {
    const known = Object.keys(OFFERED).filter((offered) => offered.split('/', 1)[0] === whole.split('/', 1)[0]);
    const hint = known.length === 0 ? 'wasi 0.2 without sockets and postern:function' : known.join(', ');
    return `the component imports ${JSON.stringify(name)}, which is not offered; there are ${hint}`;
  }
  const expected = VERSIONS.get(whole.split(':', 1)[0] as string);
  if (version === undefined || expected === undefined || expected.test(version)) return undefined;
  return `the component imports ${JSON.stringify(name)}; offered is version ${String(expected).slice(2, -6)}x`.replaceAll(
    '\\',
    '',
  );
}

/** Why what the glue takes of an interface, e.g. `getStdin`, is not there. */
export function problemOfNames(whole: string, names: readonly string[]): string | undefined {
  const offered = Object.hasOwn(OFFERED, whole) ? OFFERED[whole] : undefined;
  const missing = names.find((name) => offered === undefined || !Object.hasOwn(offered, name));
  return missing === undefined ? undefined : `the component imports ${missing} of ${whole}, which is not offered`;
}

/** Why a call of what was imported, as `checkGlue` tells it, is not there. */
export function problemOfCall(call: string): string | undefined {
  return OFFERED_CALLS.has(call) ? undefined : `the component calls ${JSON.stringify(call)}, which is not offered`;
}
