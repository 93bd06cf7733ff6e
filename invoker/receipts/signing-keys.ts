/**
 * The Ed25519 keys that sign receipts. Nodes of a database share one, made by the first that starts; its private part is sealed under the
 * master key as secrets are. Where no master key of a node opens it, the node makes another; public parts are listed for ever.
 */

import { createPrivateKey, createPublicKey, generateKeyPairSync, hash, type KeyObject, sign } from 'node:crypto';
import type { Pool, PoolClient } from 'pg';
import { withTransaction } from '../../database/index.ts';
import { type SealedSecret, SecretCiphers } from '../../host-functions/index.ts';

export interface Signer {
  /** Thumbprint of the public key's JWK (RFC 7638). */
  readonly kid: string;
  /** Raw, 32 bytes in base64url, as `x` of a JWK. */
  readonly publicKey: string;
  /** Base64url. 60 µs. */
  sign(text: string): string;
}

/** As RFC 8037 has it. */
export interface PublicJwk {
  readonly kty: 'OKP';
  readonly crv: 'Ed25519';
  readonly x: string;
  readonly kid: string;
  readonly alg: 'EdDSA';
  readonly use: 'sig';
}

interface Row {
  readonly kid: string;
  readonly ciphertext: Buffer;
  readonly nonce: Buffer;
  readonly key_id: string;
}

/** Nodes that start at once take turns. The number only has to be ours: 'psig' in ASCII. */
const KEYS_LOCK = 0x70736967;
/** Anybody may ask for the keys, and new ones are rare. */
const LISTED_FOR_MS = 10_000;

export class SigningKeys {
  readonly #pool: Pool;
  readonly #ciphers: SecretCiphers;
  #listed: { readonly keys: Promise<readonly PublicJwk[]>; readonly until: number } | undefined;

  /** previousKey: opens what it has sealed. Needs the schema migrated. */
  constructor(pool: Pool, masterKey: Buffer, previousKey?: Buffer) {
    this.#pool = pool;
    this.#ciphers = new SecretCiphers(masterKey, previousKey);
  }

  /** The newest key that this node can open, or a new one. */
  signer(): Promise<Signer> {
    return withTransaction(this.#pool, async (client) => {
      await client.query('select pg_advisory_xact_lock($1)', [KEYS_LOCK]);
      const { rows } = await client.query<Row>(
        'select kid, ciphertext, nonce, key_id from postern.signing_keys order by created_at desc, kid',
      );
      for (const row of rows) {
        const key = this.#open(row);
        if (key !== undefined) return signerOf(key);
      }
      return this.#make(client);
    });
  }

  /** Public parts, oldest first. */
  list(): Promise<readonly PublicJwk[]> {
    if (this.#listed === undefined || performance.now() > this.#listed.until) {
      const keys = this.#read();
      keys.catch(() => {
        this.#listed = undefined;
      });
      this.#listed = { keys, until: performance.now() + LISTED_FOR_MS };
    }
    return this.#listed.keys;
  }

  /** Seals anew under the current master key what the previous one sealed. Safe to repeat, and in several nodes at once. */
  async rotate(): Promise<void> {
    await withTransaction(this.#pool, async (client) => {
      await client.query('select pg_advisory_xact_lock($1)', [KEYS_LOCK]);
      const { rows } = await client.query<Row>(
        'select kid, ciphertext, nonce, key_id from postern.signing_keys where key_id <> $1',
        [this.#ciphers.current.keyId],
      );
      for (const row of rows) {
        const key = this.#open(row);
        if (key === undefined) continue;
        const { ciphertext, nonce, keyId } = this.#seal(row.kid, key);
        await client.query('update postern.signing_keys set ciphertext = $2, nonce = $3, key_id = $4 where kid = $1', [
          row.kid,
          ciphertext,
          nonce,
          keyId,
        ]);
      }
    });
  }

  async #read(): Promise<readonly PublicJwk[]> {
    const { rows } = await this.#pool.query<{ kid: string; public_key: Buffer }>(
      'select kid, public_key from postern.signing_keys order by created_at, kid',
    );
    return rows.map(({ kid, public_key }) => ({
      kty: 'OKP',
      crv: 'Ed25519',
      x: public_key.toString('base64url'),
      kid,
      alg: 'EdDSA',
      use: 'sig',
    }));
  }

  async #make(client: PoolClient): Promise<Signer> {
    const { privateKey } = generateKeyPairSync('ed25519');
    const signer = signerOf(privateKey);
    const { ciphertext, nonce, keyId } = this.#seal(signer.kid, privateKey);
    await client.query(
      'insert into postern.signing_keys (kid, public_key, ciphertext, nonce, key_id) values ($1, $2, $3, $4, $5)',
      [signer.kid, Buffer.from(signer.publicKey, 'base64url'), ciphertext, nonce, keyId],
    );
    return signer;
  }

  #seal(kid: string, key: KeyObject): SealedSecret {
    const der = key.export({ type: 'pkcs8', format: 'der' }) as Buffer;
    return this.#ciphers.current.seal(sealedName(kid), der.toString('base64'));
  }

  /** Undefined where no master key of this node opens it, or the row was changed: that key signs no more. */
  #open({ kid, ciphertext, nonce, key_id: keyId }: Row): KeyObject | undefined {
    try {
      const der = this.#ciphers.of(keyId)?.open(sealedName(kid), { ciphertext, nonce, keyId });
      return der === undefined
        ? undefined
        : createPrivateKey({ key: Buffer.from(der, 'base64'), format: 'der', type: 'pkcs8' });
    } catch {
      return undefined;
    }
  }
}

export function signerOf(privateKey: KeyObject): Signer {
  const publicKey = createPublicKey(privateKey).export({ format: 'jwk' }).x as string;
  return {
    kid: thumbprint(publicKey),
    publicKey,
    sign: (text) => sign(null, Buffer.from(text), privateKey).toString('base64url'),
  };
}

/** RFC 7638 and RFC 8037: of the required members, in alphabetical order. */
export function thumbprint(x: string): string {
  const digest = hash('sha256', JSON.stringify({ crv: 'Ed25519', kty: 'OKP', x }), 'buffer');
  return digest.toString('base64url');
}

/** No secret can have this name. */
function sealedName(kid: string): string {
  return `signing key ${kid}`;
}
