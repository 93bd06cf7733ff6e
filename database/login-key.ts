/** What a master key is to the guests' logins: a mark in a login's comment, and the login's password. Stored nowhere. */

import { createHmac } from 'node:crypto';

const COMMENT = /^postern guest login, key ([0-9a-f]{12})$/;

export class LoginKey {
  readonly fingerprint: string;
  readonly #masterKey: Buffer;

  constructor(masterKey: Buffer) {
    this.#masterKey = masterKey;
    this.fingerprint = this.#hmac('guest login fingerprint').toString('hex').slice(0, 12);
  }

  passwordOf(login: string): string {
    return this.#hmac(`guest login password\0${login}`).toString('base64url');
  }

  /** Of a login that has this key's password. Written in one transaction with it, so that one tells of the other. */
  get comment(): string {
    return `postern guest login, key ${this.fingerprint}`;
  }

  #hmac(purpose: string): Buffer {
    return createHmac('sha256', this.#masterKey).update(`postern ${purpose}`).digest();
  }
}

/** The fingerprint in a login's comment; undefined where there is none. */
export function fingerprintIn(comment: string | null | undefined): string | undefined {
  return COMMENT.exec(comment ?? '')?.[1];
}

/** The keys of a node. During a rotation logins may have the password of either. */
export class LoginKeys {
  readonly current: LoginKey;
  /** Undefined where it is the current one, too. */
  readonly previous: LoginKey | undefined;

  constructor(masterKey: Buffer, previousKey?: Buffer) {
    this.current = new LoginKey(masterKey);
    const previous = previousKey === undefined ? undefined : new LoginKey(previousKey);
    this.previous = previous?.fingerprint === this.current.fingerprint ? undefined : previous;
  }

  /** Undefined where a login's password comes from a key that this node does not have. */
  find(fingerprint: string | undefined): LoginKey | undefined {
    return [this.current, this.previous].find((key) => key?.fingerprint === fingerprint);
  }
}
