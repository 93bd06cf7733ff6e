/**
 * Which function a request is for, from the request target exactly as it was sent. The router's own decoding and
 * parameters are not used: a name that is percent-encoded, in another case or behind `//` is no name (HTTP-04).
 */

import { PosternError } from '../../runtime/index.ts';

const FUNCTION_PATH = /^\/functions\/v1\/(?:invoke\/)?([a-z][a-z0-9_-]{0,62})((?:\/[^?#]*)?)$/;
const INVOKE_PATH = /^\/invoke\/([a-z0-9][a-z0-9_-]{0,63})$/;
// A client removes dot segments before it sends; one that does not wants two readers to see two paths.
const DOT_SEGMENT = /\/(?:\.|%2e){1,2}(?:\/|$)/i;

export interface FunctionTarget {
  readonly name: string;
  /** The path as sent, without the query. */
  readonly path: string;
  /** What follows the name: '' or '/…', as sent. */
  readonly subpath: string;
  /** Without '?', '' where there is none. */
  readonly query: string;
}

/** Throws NOT_FOUND where the target names no function, INVALID_REQUEST for dot segments. */
export function parseFunctionTarget(target: string): FunctionTarget {
  const mark = target.indexOf('?');
  const path = mark === -1 ? target : target.slice(0, mark);
  const match = FUNCTION_PATH.exec(path);
  if (match === null) throw new PosternError('NOT_FOUND', 'there is no such route');
  const subpath = match[2]!;
  // `invoke` is nobody's name: what follows it was meant as one.
  if (match[1] === 'invoke') throw notAName(subpath);
  if (subpath !== '' && DOT_SEGMENT.test(subpath)) {
    throw new PosternError('INVALID_REQUEST', "the path has a '.' or '..' segment");
  }
  return { name: match[1]!, path, subpath, query: mark === -1 ? '' : target.slice(mark + 1) };
}

function notAName(subpath: string): PosternError {
  const name = subpath.split('/', 2)[1] ?? '';
  return name === ''
    ? new PosternError('NOT_FOUND', 'there is no such route')
    : new PosternError('FUNCTION_NOT_FOUND', `there is no function '${name.slice(0, 100)}'`);
}

/** The id of `/invoke/{id}`: a function's name, or the 64 hex digits of a version. */
export function parseInvokeTarget(target: string): string {
  const mark = target.indexOf('?');
  const match = INVOKE_PATH.exec(mark === -1 ? target : target.slice(0, mark));
  if (match === null) throw new PosternError('NOT_FOUND', 'there is no such route');
  return match[1]!;
}
