export { createDatabaseHostFunction, type DatabaseHostFunctionOptions } from './db/database-host-function.ts';
export { DATABASE_LIMITS, type DatabaseLimits } from './db/database-limits.ts';
export { createGuestPools, type GuestConnections, type GuestPools, type GuestPoolsOptions } from './db/guest-pools.ts';
export type { DatabaseScope } from './db/transaction-settings.ts';
export { NONCE_BYTES, openBytes, type SealedBytes, sealBytes, TAG_BYTES } from './env/aes-gcm.ts';
export { Environment, plainVariables, type ResolvedEnv, type SecretSource } from './env/environment.ts';
export { createRedactor, REDACTED, type Redactor } from './env/redactor.ts';
export { type SealedSecret, type SecretCipher, SecretCiphers } from './env/secret-cipher.ts';
export { type SecretInfo, SecretStore, VARIABLE_NAME } from './env/secret-store.ts';
export type { HostLog } from './host-log.ts';
export { AllowList, parseAllowEntry } from './http/allow-list.ts';
export { createHttpHostFunction, type HttpHostFunctionOptions } from './http/http-host-function.ts';
export { HTTP_LIMITS, type HttpLimits } from './http/http-session.ts';
export {
  InvocationLog,
  type InvocationLogOptions,
  LOG_LIMITS,
  type LogLimits,
  type LogOutput,
  type LogRecord,
} from './log/invocation-log.ts';
export { LOG_RATE, LogBudgets, type LogRate } from './log/log-budget.ts';
export { createLogHostFunction } from './log/log-host-function.ts';
export { StreamLogOutput } from './log/log-output.ts';
export { parseLogPayload } from './log/log-payload.ts';
export { printableJson } from './log/log-text.ts';
