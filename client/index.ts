/** What `import … from 'postern/client'` is: HTTP alone, so that it runs wherever `fetch` is. Imports nothing of ours. */

export type {
  ApiKeyInfo,
  CallOptions,
  ClientOptions,
  CodeLanguage,
  Deployment,
  DeployRequest,
  ExecuteAnswer,
  ExecuteRequest,
  FailedRun,
  FunctionSummary,
  Invocation,
  InvocationFilter,
  InvokeOptions,
  LogLine,
  OutputRef,
  Run,
} from '../types/client.d.ts';
export {
  ConnectionError,
  CpuError,
  ForbiddenError,
  FunctionAnswerError,
  FunctionError,
  InvalidRequestError,
  MemoryError,
  NotFoundError,
  PolicyError,
  PosternClientError,
  RateLimitedError,
  SessionError,
  TimeoutError,
  UnauthorizedError,
  UnavailableError,
} from './errors.ts';
export { PosternClient } from './postern-client.ts';
