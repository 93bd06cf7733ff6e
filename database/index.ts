export * from './embedded.ts';
export * from './errors.ts';
export { ensureGuestLogin, type GuestConnection, type GuestLoginOptions } from './guest-login.ts';
export { guestRoleProblem } from './guest-role.ts';
export { type MigrateOptions, type Migration, migrate, pendingMigrations } from './migrate.ts';
export * from './pools.ts';
export * from './quoting.ts';
export * from './roles.ts';
export * from './transaction.ts';
