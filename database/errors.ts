/** What goes wrong below every other folder. Plain errors: `runtime/errors.ts` is not below us, the server translates. */

/** The schema can not be brought to what this code expects: edited, newer, or a statement failed. */
export class MigrationError extends Error {
  override readonly name = 'MigrationError';
}

/** The embedded server can not be started. The message says what to do about it. */
export class EmbeddedPostgresError extends Error {
  override readonly name = 'EmbeddedPostgresError';
}

/** A guest login can not be made or is not safe to use. `remedy` is SQL that an administrator may run, where there is one. */
export class GuestRoleError extends Error {
  override readonly name = 'GuestRoleError';
  readonly remedy: string | undefined;

  constructor(message: string, options: { readonly remedy?: string; readonly cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.remedy = options.remedy;
  }
}
