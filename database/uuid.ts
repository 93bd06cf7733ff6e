const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Before all others. */
export const NIL_UUID = '00000000-0000-0000-0000-000000000000';

/** In the one form that everybody writes; Postgres reads more. What is asked for by another id does not exist, and no query fails. */
export function isUuid(text: string): boolean {
  return UUID.test(text);
}
