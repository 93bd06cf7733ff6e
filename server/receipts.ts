/** A node's receipts: the chain that it writes, what it signs with, and what reads them. */

import type { Pool } from 'pg';
import { ReceiptLedger, ReceiptReader, SigningKeys } from '../invoker/receipts/index.ts';

export interface ReceiptsOptions {
  readonly pool: Pool;
  readonly nodeId: string;
  readonly engineId: string;
  readonly masterKey: Buffer;
  readonly previousMasterKey: Buffer | undefined;
  /** False: this node's invocations leave none. Those of others are read all the same. */
  readonly keep: boolean;
  readonly onError: (error: Error, dropped: number) => void;
}

export interface Receipts {
  readonly ledger: ReceiptLedger | undefined;
  readonly reader: ReceiptReader;
  readonly keys: SigningKeys;
}

/** The chain has begun when it resolves; `ledger.stop` ends it. */
export async function openReceipts(options: ReceiptsOptions): Promise<Receipts> {
  const { pool, nodeId, engineId, masterKey, previousMasterKey, keep, onError } = options;
  const keys = new SigningKeys(pool, masterKey, previousMasterKey);
  let ledger: ReceiptLedger | undefined;
  if (keep) {
    ledger = new ReceiptLedger({ pool, chain: nodeId, engineId, signer: await keys.signer(), onError });
    ledger.start();
  }
  const reader = new ReceiptReader(pool, async (chain) => {
    if (chain === nodeId) await ledger?.flush();
  });
  return { ledger, reader, keys };
}
