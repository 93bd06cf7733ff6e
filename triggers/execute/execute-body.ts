/** The body of `POST /execute` before anything of it is parsed: as large as the caller's policy allows, and JSON. */

import { PosternError } from '../../runtime/index.ts';
import { checkedJson, hasMoreValuesThan, takeMember } from '../http/body.ts';
import type { ExecuteBody } from './execute-request.ts';
import { maxBodyBytes, maxCodeBytes, type Policy } from './policy.ts';

/** Beside the input. Lists have a hundred entries at most, and there are four. */
const MAX_VALUES = 5_000;

/** Also where nothing is sent. */
export const NO_OBJECT: ExecuteBody = { value: null, inputJson: 'null' };

/** Throws PAYLOAD_TOO_LARGE for more than the policy allows in code and input, INVALID_BODY, and INVALID_REQUEST. */
export function readExecuteBody(bytes: Buffer, policy: Policy): ExecuteBody {
  checkLength(bytes.length, policy);
  if (!checkedJson(bytes).trimStart().startsWith('{')) return NO_OBJECT;
  const { text: inputJson = 'null', rest } = takeMember(bytes, 'input');
  if (rest.length > maxCodeBytes(policy))
    throw tooLarge(`${rest.length} bytes without its input`, maxCodeBytes(policy));
  // Six megabytes of them, which a policy may allow for code, would take the parser seconds.
  if (hasMoreValuesThan(rest, MAX_VALUES))
    throw new PosternError('INVALID_REQUEST', `the body has more than ${MAX_VALUES} values beside its input`);
  return { value: JSON.parse(rest.toString('utf8')), inputJson };
}

/** Of the whole body, as it is or as it is announced. Throws PAYLOAD_TOO_LARGE. */
export function checkLength(bytes: number, policy: Policy): void {
  if (bytes > maxBodyBytes(policy)) throw tooLarge(`${bytes} bytes`, maxBodyBytes(policy));
}

function tooLarge(given: string, allowed: number): PosternError {
  const text = `the body has ${given}, and ${allowed} are enough for what the API key's policy allows`;
  return new PosternError('PAYLOAD_TOO_LARGE', text);
}
