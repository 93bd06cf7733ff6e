/**
 * How long after an invocation's deadline the clocks of its host calls strike. They are for a call that nobody ends: the host
 * ends what is open at the deadline itself. Were they as fast, the guest could hear of a timeout while it is still alive,
 * and end as FUNCTION_ERROR instead of FUNCTION_TIMEOUT.
 */
export const BACKSTOP_GRACE_MS = 500;
