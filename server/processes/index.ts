export { MemberFailed } from './member.ts';
export { type Membership, type MetricsPage, ownMembership } from './membership.ts';
export { ProcessGroup } from './process-group.ts';
