/**
 * Checks receipts without a server or a database: lines of an export, of one chain or of several mixed, and single receipts with their
 * proof. Says what the lines prove, or throws at the first thing that is wrong with them.
 */

import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { type Checkpoint, checkpointLine, checkpointText, type SignedCheckpoint } from './checkpoint.ts';
import { merkleRoot, rootFrom } from './merkle.ts';
import { RECEIPT_FORMAT } from './receipt.ts';
import { type PublicJwk, thumbprint } from './signing-keys.ts';
import { sha256 } from './text.ts';

/** `changed`, `missing`, `reordered`, `repeated`: receipts; the others: checkpoints and lines. */
export type ReceiptProblem =
  | 'changed'
  | 'missing'
  | 'reordered'
  | 'repeated'
  | 'unsigned'
  | 'bad signature'
  | 'unknown key'
  | 'unreadable';

/** What is wrong, and where: `message` is a whole sentence. */
export class ReceiptDefect extends Error {
  override readonly name = 'ReceiptDefect';
  readonly problem: ReceiptProblem;
  readonly chain: string | undefined;
  /** Of the first receipt that it is about. */
  readonly seq: number | undefined;

  constructor(
    problem: ReceiptProblem,
    message: string,
    where: { readonly chain?: string; readonly seq?: number } = {},
  ) {
    super(where.chain === undefined ? message : `chain ${where.chain}: ${message}`);
    this.problem = problem;
    this.chain = where.chain;
    this.seq = where.seq;
  }
}

export interface VerifiedChain {
  readonly chain: string;
  readonly first: number;
  readonly last: number;
  readonly receipts: number;
  readonly signatures: number;
  /** Receipts that the node itself says it had to give up. */
  readonly dropped: number;
  /** Of its first and last receipt. */
  readonly from: string;
  readonly to: string;
  /** The last receipt says that the node was stopped in order: nothing comes after. */
  readonly closed: boolean;
  readonly keys: readonly string[];
}

export interface Verified {
  readonly chains: readonly VerifiedChain[];
  /** Single receipts with their proof. */
  readonly proofs: readonly {
    readonly invocation: string;
    readonly chain: string;
    readonly seq: number;
    readonly at: string;
    readonly key: string;
  }[];
}

/**
 * keys: those that may have signed. Without them each checkpoint is checked with the key that stands in it, which shows only that the lines
 * belong together: whoever made them may have made the key. Throws ReceiptDefect.
 */
export async function verifyReceipts(
  lines: Iterable<string> | AsyncIterable<string>,
  keys?: readonly Pick<PublicJwk, 'kid' | 'x'>[],
): Promise<Verified> {
  const verifier = new Verifier(keys);
  let number = 0;
  for await (const line of lines) verifier.read(line, ++number);
  return verifier.end();
}

interface Receipt {
  readonly chain: string;
  readonly seq: number;
  readonly prev: string;
  readonly at: string;
  readonly type: string;
  readonly invocation?: string;
  readonly hash: string;
}

class Verifier {
  readonly #trusted: ReadonlyMap<string, string> | undefined;
  readonly #keys = new Map<string, KeyObject>();
  readonly #chains = new Map<string, ChainVerifier>();
  readonly #proofs: Verified['proofs'][number][] = [];

  constructor(keys: readonly Pick<PublicJwk, 'kid' | 'x'>[] | undefined) {
    this.#trusted = keys === undefined ? undefined : new Map(keys.map(({ kid, x }) => [kid, x]));
  }

  read(line: string, number: number): void {
    if (line.startsWith('{"checkpoint":')) {
      const signed = readCheckpoint(line, number);
      this.#checkSignature(signed);
      this.#chain(signed.checkpoint.chain).checkpoint(signed.checkpoint);
    } else if (line.startsWith('{"receipt":')) {
      this.#proof(line, number);
    } else {
      const receipt = readReceipt(line, number);
      this.#chain(receipt.chain).receipt(receipt);
    }
  }

  end(): Verified {
    return { chains: [...this.#chains.values()].map((chain) => chain.end()), proofs: this.#proofs };
  }

  #chain(id: string): ChainVerifier {
    let chain = this.#chains.get(id);
    if (chain === undefined) {
      chain = new ChainVerifier(id);
      this.#chains.set(id, chain);
    }
    return chain;
  }

  #checkSignature({ checkpoint, signature, publicKey }: SignedCheckpoint): void {
    const { chain, first, last, key } = checkpoint;
    const where = { chain, seq: first };
    const x = this.#trusted === undefined ? publicKey : this.#trusted.get(key);
    if (x === undefined) {
      throw new ReceiptDefect(
        'unknown key',
        `the receipts ${first} to ${last} are signed with the key ${key}, which is none of those given`,
        where,
      );
    }
    const bad = new ReceiptDefect(
      'bad signature',
      `the signature of the receipts ${first} to ${last} is not right`,
      where,
    );
    if (x !== publicKey || thumbprint(x) !== key) throw bad;
    let known = this.#keys.get(key);
    if (known === undefined) {
      try {
        known = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
      } catch {
        throw bad;
      }
      this.#keys.set(key, known);
    }
    const bytes = Buffer.from(signature, 'base64url');
    // The last character has bits to spare.
    const isCanonical = bytes.toString('base64url') === signature;
    if (!isCanonical || !verify(null, Buffer.from(checkpointText(checkpoint)), known, bytes)) throw bad;
  }

  #proof(line: string, number: number): void {
    // Quotes inside of a receipt's texts have a backslash before them.
    const pathAt = line.indexOf(',"path":[');
    const checkpointAt = line.indexOf(',"checkpoint":');
    if (pathAt === -1 || checkpointAt < pathAt) throw unreadable(number);
    const receipt = readReceipt(line.slice('{"receipt":'.length, pathAt), number);
    const path = readPath(line.slice(pathAt + ',"path":'.length, checkpointAt), number);
    const signed = readCheckpoint(`{${line.slice(checkpointAt + 1)}`, number);
    this.#checkSignature(signed);
    const { chain, first, last, root, key } = signed.checkpoint;
    const { seq } = receipt;
    const belongs = receipt.chain === chain && seq >= first && seq <= last;
    if (!belongs || rootFrom(receipt.hash, seq - first, last - first + 1, path) !== root) {
      throw new ReceiptDefect('changed', `receipt ${seq} or its path was changed: the checkpoint does not cover it`, {
        chain: receipt.chain,
        seq,
      });
    }
    this.#proofs.push({ invocation: receipt.invocation ?? '', chain, seq, at: receipt.at, key });
  }
}

/** One chain: segments in a row, each with its receipts and then its checkpoint, whose signature is right. */
class ChainVerifier {
  readonly #chain: string;
  #pending: Receipt[] = [];
  #first: Receipt | undefined;
  #last: Receipt | undefined;
  #receipts = 0;
  #signatures = 0;
  #dropped = 0;
  readonly #keys = new Set<string>();

  constructor(chain: string) {
    this.#chain = chain;
  }

  receipt(receipt: Receipt): void {
    this.#pending.push(receipt);
  }

  checkpoint(checkpoint: Checkpoint): void {
    const receipts = this.#pending;
    this.#pending = [];
    this.#checkPlace(checkpoint, receipts);
    this.#checkNumbers(checkpoint, receipts);
    this.#checkHashes(checkpoint, receipts);
    this.#first ??= receipts[0];
    this.#last = receipts.at(-1);
    this.#receipts += receipts.length;
    this.#signatures++;
    this.#dropped += checkpoint.dropped;
    this.#keys.add(checkpoint.key);
  }

  end(): VerifiedChain {
    const [unsigned] = this.#pending;
    if (unsigned !== undefined)
      throw this.#defect(
        'unsigned',
        unsigned.seq,
        `the receipts from ${unsigned.seq} on have no checkpoint after them`,
      );
    const { seq: first, at: from } = this.#first as Receipt;
    const { seq: last, at: to, type } = this.#last as Receipt;
    return {
      chain: this.#chain,
      first,
      last,
      receipts: this.#receipts,
      signatures: this.#signatures,
      dropped: this.#dropped,
      from,
      to,
      closed: type === 'stop',
      keys: [...this.#keys],
    };
  }

  /** That it follows the one before. The first may follow receipts that are not here any more: its signature is their end. */
  #checkPlace({ first, last, dropped, prev }: Checkpoint, receipts: readonly Receipt[]): void {
    const before = this.#last;
    if (before === undefined) return;
    const expected = before.seq + 1;
    const begins = first - dropped;
    if (begins > expected) {
      const unsigned = receipts.some(({ seq }) => seq === expected);
      if (unsigned)
        throw this.#defect('unsigned', expected, `the checkpoint of the receipts from ${expected} on is missing`);
      throw this.#missing(expected, begins - 1);
    }
    if (begins < expected) {
      const problem = last <= before.seq ? 'repeated' : 'reordered';
      throw this.#defect(
        problem,
        first,
        `the receipts ${first} to ${last} come again or too late, after receipt ${before.seq}`,
      );
    }
    if (dropped === 0 && prev !== before.hash) throw this.#changed(first);
  }

  /** That its receipts are first to last, once each and in order. */
  #checkNumbers({ first, last }: Checkpoint, receipts: readonly Receipt[]): void {
    for (const [at, { seq }] of receipts.entries()) {
      const expected = first + at;
      if (seq === expected && seq <= last) continue;
      if (seq > last && expected > last) {
        throw this.#defect('reordered', seq, `receipt ${seq} comes before the checkpoint of those up to ${last}`);
      }
      if (seq < expected) throw this.#early(seq, first);
      const later = receipts.some((other) => other.seq === expected);
      if (later) throw this.#defect('reordered', expected, `receipt ${expected} comes after receipt ${seq}`);
      throw this.#missing(expected, Math.min(seq, last + 1) - 1);
    }
    if (receipts.length < last - first + 1) throw this.#missing(first + receipts.length, last);
  }

  #early(seq: number, first: number): ReceiptDefect {
    const known = this.#last !== undefined && seq <= this.#last.seq;
    if (seq >= first || known) return this.#defect('repeated', seq, `receipt ${seq} comes twice, or too late`);
    return this.#defect('unsigned', seq, `receipt ${seq} is covered by no checkpoint`);
  }

  /**
   * Backwards from the signed hash: a receipt is right if the one after it has its hash, and is right itself. Of one that was changed, the
   * hash of the one before may be wrong too.
   */
  #checkHashes({ prev, hash, root }: Checkpoint, receipts: readonly Receipt[]): void {
    let changed: number | undefined;
    let expected = hash;
    let isKnown = true;
    for (const receipt of receipts.toReversed()) {
      const isRight = receipt.hash === expected;
      if (!isRight && isKnown) changed = receipt.seq;
      isKnown = isRight;
      expected = receipt.prev;
    }
    if (changed !== undefined) throw this.#changed(changed);
    const isWhole = expected === prev && merkleRoot(receipts.map((receipt) => receipt.hash)) === root;
    if (isWhole) return;
    const seq = receipts[0]?.seq ?? 0;
    throw this.#defect('bad signature', seq, `the checkpoint of the receipts from ${seq} on contradicts itself`);
  }

  #changed(seq: number): ReceiptDefect {
    return this.#defect('changed', seq, `receipt ${seq} was changed`);
  }

  #missing(from: number, to: number): ReceiptDefect {
    const which = from === to ? `receipt ${from} is` : `the receipts ${from} to ${to} are`;
    return this.#defect('missing', from, `${which} missing`);
  }

  #defect(problem: ReceiptProblem, seq: number, message: string): ReceiptDefect {
    return new ReceiptDefect(problem, message, { chain: this.#chain, seq });
  }
}

function readReceipt(line: string, number: number): Receipt {
  const { v, chain, seq, prev, at, type, invocation } = parseObject(line, number);
  if (v !== RECEIPT_FORMAT)
    throw unreadable(number, `a receipt of format ${String(v).slice(0, 20)}, which this version does not know`);
  const known =
    typeof chain === 'string' &&
    isCount(seq) &&
    typeof prev === 'string' &&
    typeof at === 'string' &&
    typeof type === 'string';
  if (!known || (invocation !== undefined && typeof invocation !== 'string')) throw unreadable(number);
  return { chain, seq, prev, at, type, ...(invocation === undefined ? {} : { invocation }), hash: sha256(line) };
}

/** The line exactly as a node writes it: what is not signed can't differ either. */
function readCheckpoint(line: string, number: number): SignedCheckpoint {
  const { checkpoint, signature, publicKey } = parseObject(line, number);
  if (typeof checkpoint !== 'object' || checkpoint === null) throw unreadable(number);
  const given = checkpoint as Checkpoint;
  const known =
    given.v === RECEIPT_FORMAT &&
    typeof given.chain === 'string' &&
    isCount(given.first) &&
    isCount(given.last) &&
    isCount(given.dropped) &&
    typeof signature === 'string' &&
    typeof publicKey === 'string' &&
    checkpointLine(checkpointText(given), signature, publicKey) === line;
  if (!known || given.last < given.first) throw unreadable(number);
  return { checkpoint: given, signature, publicKey };
}

function readPath(json: string, number: number): readonly string[] {
  const path: unknown = parse(json, number);
  const isPath = Array.isArray(path) && path.every((hash) => typeof hash === 'string' && /^[0-9a-f]{64}$/.test(hash));
  if (isPath && JSON.stringify(path) === json) return path;
  throw unreadable(number);
}

function parseObject(text: string, number: number): Record<string, unknown> {
  const value = parse(text, number);
  if (typeof value !== 'object' || value === null) throw unreadable(number);
  return value as Record<string, unknown>;
}

function parse(text: string, number: number): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw unreadable(number);
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function unreadable(number: number, what = 'neither a receipt nor a checkpoint'): ReceiptDefect {
  return new ReceiptDefect('unreadable', `line ${number} is ${what}`);
}
