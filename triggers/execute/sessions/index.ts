export { noSession, ownSessions, sessionSummaryOf } from './own-sessions.ts';
export { type SessionRequest, sessionSchema } from './session-request.ts';
export {
  type HeldSession,
  SESSION_LIMITS,
  SESSION_RETENTION,
  type SessionInfo,
  type SessionLimits,
  type SessionOwner,
  type SessionRunOptions,
  Sessions,
  type SessionsOptions,
} from './sessions.ts';
