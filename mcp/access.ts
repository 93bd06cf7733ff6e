/** What a caller may do: only the tools for that are offered. */

import { type ApiKeyInfo, ForbiddenError, type PosternClient, UnauthorizedError } from '../client/index.ts';

export interface Access {
  /** Absent without an API key. */
  readonly apiKey: ApiKeyInfo | undefined;
  /** Whether the control API answers: functions can be deployed and their logs read. */
  readonly isAdmin: boolean;
}

/** Where a `dev` node may be, which wants no admin key. */
const LOOPBACK = /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** Asks the node. Rejects with the client's error where it is not there, or where a key that was given is not good. */
export async function askAccess(
  client: PosternClient,
  given: { readonly apiKey: boolean; readonly adminKey: boolean },
): Promise<Access> {
  const apiKey = given.apiKey ? await client.apiKey() : undefined;
  const isAdmin =
    (given.adminKey || LOOPBACK.test(new URL(client.url).hostname)) && (await administers(client, given.adminKey));
  return { apiKey, isAdmin };
}

async function administers(client: PosternClient, hasKey: boolean): Promise<boolean> {
  try {
    await client.functions();
    return true;
  } catch (error) {
    if (!hasKey && (error instanceof UnauthorizedError || error instanceof ForbiddenError)) return false;
    throw error;
  }
}
