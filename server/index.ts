export type { EventAdmin } from './control/event-routes.ts';
export { replayReportOf } from './control/recording-routes.ts';
export { createServer, type ServerOptions } from './create-server.ts';
export { type ErrorBody, errorAnswer, HTTP_STATUS } from './http-errors.ts';
export type { DatabaseTriggers, NodeParts, RunningPostern } from './node.ts';
export { readStartOptions, StartError, type StartOptions } from './options.ts';
export { MemberFailed, type Membership, ownMembership, type ProcessGroup } from './processes/index.ts';
export { createProcessGroup, type StartExtras, startPostern } from './start.ts';
