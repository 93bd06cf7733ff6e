export type { InvocationFacts } from './receipt.ts';
export { ReceiptLedger, type ReceiptLedgerOptions } from './receipt-ledger.ts';
export { type ChainSummary, type ReceiptPage, ReceiptReader } from './receipt-reader.ts';
export { type PublicJwk, type Signer, SigningKeys, signerOf } from './signing-keys.ts';
export { ReceiptDefect, type ReceiptProblem, type Verified, type VerifiedChain, verifyReceipts } from './verify.ts';
