import type { FunctionVersion } from '../../invoker/index.ts';
import { PosternError } from '../../runtime/index.ts';
import type { HttpCatalog } from './http-trigger.ts';

/**
 * The catalogue as the HTTP routes may see it: functions with an HTTP trigger. `POST /invoke/{id}` hands over any event that a
 * caller writes, so whoever has a token, be it an anonymous one, could say of the others that a payment was signed or that a row
 * was written.
 */
export function httpOnly(catalog: HttpCatalog): HttpCatalog {
  return {
    active(name) {
      const version = catalog.active(name);
      return version instanceof Promise ? version.then(requireHttp) : requireHttp(version);
    },
    nameOfActive: (versionId) => catalog.nameOfActive(versionId),
  };
}

function requireHttp(version: FunctionVersion): FunctionVersion {
  if (version.config.triggers.some(({ type }) => type === 'http')) return version;
  throw new PosternError(
    'FUNCTION_NOT_FOUND',
    `function "${version.name}" has no HTTP trigger; add 'http' to its triggers to call it`,
  );
}
