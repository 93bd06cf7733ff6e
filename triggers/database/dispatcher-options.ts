import type { ClientConfig, Pool } from 'pg';
import type { Invoker, Outcome } from '../../invoker/index.ts';
import type { DeliveryPolicy } from './retry-policy.ts';

export interface DispatcherOptions {
  /** The system pool. */
  readonly pool: Pool;
  /** The same database and user; the doorbell keeps a connection of its own. */
  readonly connection: ClientConfig;
  readonly invoker: Invoker;
  /** Retry and concurrency of a function's active version. May throw or reject; defaults apply then. */
  readonly policy: (functionName: string) => DeliveryPolicy | Promise<DeliveryPolicy>;
  /** Who holds the leases. */
  readonly nodeId: string;
  /** Most invocations at once. Default 128. */
  readonly concurrency?: number;
  /**
   * How long a node may say nothing before others take its events. Renewed at a third of it, so it bounds not the
   * functions but the delay after a crash. Too short is worse: an event would run twice. Default 30 s.
   */
  readonly leaseMs?: number;
  /** How often a sleeping dispatcher looks although nobody rang. Default 1 s. */
  readonly pollMs?: number;
  readonly log?: (message: string, error?: unknown) => void;
  readonly metrics?: DispatcherMetrics;
}

/** What the server counts. Called often; must not throw. */
export interface DispatcherMetrics {
  leased?(count: number): void;
  /** From the change, by the database's clock, to the start of an attempt, by ours. */
  startLagMs?(lagMs: number): void;
  inFlight?(count: number): void;
  attempted?(functionName: string, outcome: Outcome): void;
  /** `lost`: we no longer held the lease when we wanted to acknowledge. */
  settled?(how: 'finished' | 'retried' | 'dead' | 'handed_back' | 'lost', count: number): void;
}
