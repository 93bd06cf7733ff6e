export { listSchedules, nextFires, type ScheduleSummary } from './list-schedules.ts';
export { cancelRun, listRuns, type ScheduledRun, scheduleRun } from './scheduled-runs.ts';
export { Scheduler, type SchedulerOptions } from './scheduler.ts';
