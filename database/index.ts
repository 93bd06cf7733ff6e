export type { ClaimsKey } from './claims-key.ts';
export { examineDatabase, type Finding } from './doctor.ts';
export type { Severity } from './doctor-checks.ts';
export * from './embedded.ts';
export * from './errors.ts';
export { armFailpoints, FAILPOINTS, type Failpoint, failpoint, seededRandom } from './failpoint.ts';
export {
  ensureGuestLogin,
  GUEST_LOGIN_PATTERN,
  type GuestConnection,
  type GuestLoginOptions,
  rotateGuestLogins,
} from './guest-login.ts';
export { guestRoleProblem } from './guest-role.ts';
export { Janitor, type JanitorOptions, type RetentionRule } from './janitor.ts';
export { type MigrateOptions, type Migration, migrate, pendingMigrations } from './migrate.ts';
export { reachesThroughPooler } from './pooler.ts';
export * from './pools.ts';
export * from './quoting.ts';
export * from './roles.ts';
export * from './timed-query.ts';
export * from './transaction.ts';
export { isUuid, NIL_UUID } from './uuid.ts';
