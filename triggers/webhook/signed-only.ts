import type { FunctionVersion } from '../../invoker/index.ts';
import { PosternError } from '../../runtime/index.ts';
import type { HttpCatalog } from '../http/http-trigger.ts';

/**
 * The catalogue as the HTTP routes may see it: without functions that have a webhook trigger and no HTTP trigger. `POST
 * /invoke/{id}` hands over any event that a caller writes, so whoever has a token, be it an anonymous one, could say that
 * a payment was signed.
 */
export function withoutSignedOnly(catalog: HttpCatalog): HttpCatalog {
  return {
    active(name) {
      const version = catalog.active(name);
      return version instanceof Promise ? version.then(refuseSignedOnly) : refuseSignedOnly(version);
    },
    nameOfActive: (versionId) => catalog.nameOfActive(versionId),
  };
}

function refuseSignedOnly(version: FunctionVersion): FunctionVersion {
  const types = version.config.triggers.map(({ type }) => type);
  if (types.includes('http') || !types.includes('webhook')) return version;
  throw new PosternError('FUNCTION_NOT_FOUND', `there is no function '${version.name}'`);
}
