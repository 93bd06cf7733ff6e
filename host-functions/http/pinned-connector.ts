import dns from 'node:dns/promises';
import net from 'node:net';
import tls from 'node:tls';
import type { buildConnector } from 'undici';
import type { HostCallError } from '../../runtime/index.ts';
import type { AllowList } from './allow-list.ts';
import { notAllowed } from './http-errors.ts';
import { canonicalAddress } from './ip-address.ts';

/** All addresses of a name. Rejects where it has none. */
export type Resolver = (hostname: string) => Promise<readonly string[]>;

export interface ConnectorOptions {
  readonly allowList: AllowList;
  readonly resolve: Resolver;
  /** Certificates to trust beside the platform's; for tests. */
  readonly ca?: string;
}

const CONNECT_TIMEOUT_MS = 10_000;
const RESOLVE_TIMEOUT_MS = 5_000;
/** A name with more addresses than this is tried at these only. */
const MAX_ATTEMPTS = 4;

/** The system's resolver, which also knows /etc/hosts and container networks. */
export const systemResolver: Resolver = async (hostname) => {
  const answers = await dns.lookup(hostname, { all: true, order: 'verbatim' });
  return answers.map((answer) => answer.address);
};

/**
 * Connects for undici: resolves the name once, checks *every* address it has, connects to one of exactly these, and looks
 * at the socket's peer once more before a byte is sent. A name that answers differently a moment later (DNS rebinding)
 * is never asked again for the same connection; literals and `localhost` never reach a resolver.
 */
export function createPinnedConnector(options: ConnectorOptions): buildConnector.connector {
  return (target, callback) => {
    connect(target, options).then(
      (socket) => callback(null, socket),
      (error: Error) => callback(error, null),
    );
  };
}

async function connect(target: buildConnector.Options, options: ConnectorOptions): Promise<net.Socket> {
  const host = target.hostname.replace(/^\[|\]$/g, '');
  const secure = target.protocol === 'https:';
  const port = target.port === '' ? (secure ? 443 : 80) : Number(target.port);
  const addresses = await checkedAddresses(host, port, options);
  let failure: unknown;
  for (const address of addresses.slice(0, MAX_ATTEMPTS)) {
    try {
      const socket = await openSocket(address, port);
      return secure ? await startTls(socket, host, options.ca) : socket;
    } catch (error) {
      failure = error;
      // A certificate that does not fit is an answer, not an address that is down.
      if (!isUnreachable(error)) break;
    }
  }
  throw failure;
}

async function checkedAddresses(host: string, port: number, options: ConnectorOptions): Promise<readonly string[]> {
  const literal = canonicalAddress(host);
  const found =
    literal !== undefined ? [literal] : host === 'localhost' ? ['127.0.0.1', '::1'] : await resolveName(host, options);
  const addresses = found.map(canonicalAddress);
  for (const address of addresses) {
    if (address === undefined || !options.allowList.allowsAddress(host, port, address)) throw addressRefused(host);
  }
  return addresses as string[];
}

function addressRefused(host: string): HostCallError {
  return notAllowed(`${host} leads to an address that functions may not reach`);
}

async function resolveName(host: string, options: ConnectorOptions): Promise<readonly string[]> {
  const timeout = Promise.withResolvers<never>();
  const timer = setTimeout(() => timeout.reject(codedError('ETIMEOUT')), RESOLVE_TIMEOUT_MS);
  try {
    const addresses = await Promise.race([options.resolve(host), timeout.promise]);
    if (addresses.length === 0) throw codedError('ENOTFOUND');
    return addresses;
  } finally {
    clearTimeout(timer);
  }
}

function openSocket(address: string, port: number): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: address, port, noDelay: true, keepAlive: true });
    const fail = (error: Error): void => {
      socket.destroy();
      reject(error);
    };
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => fail(codedError('ETIMEDOUT')));
    socket.once('error', fail);
    socket.once('connect', () => {
      socket.setTimeout(0);
      socket.removeAllListeners('timeout');
      socket.off('error', fail);
      if (canonicalAddress(socket.remoteAddress ?? '') === address) resolve(socket);
      else fail(codedError('EPEERADDRESS'));
    });
  });
}

function startTls(socket: net.Socket, host: string, ca: string | undefined): Promise<tls.TLSSocket> {
  return new Promise((resolve, reject) => {
    const secure = tls.connect({
      socket,
      // A server name can't be an address; then the certificate is checked against `host`.
      ...(net.isIP(host) === 0 ? { servername: host } : { host }),
      ...(ca === undefined ? {} : { ca: [...tls.rootCertificates, ca] }),
      ALPNProtocols: ['http/1.1'],
      // Whatever the node's environment says (NODE_TLS_REJECT_UNAUTHORIZED).
      rejectUnauthorized: true,
      minVersion: 'TLSv1.2',
    });
    const fail = (error: Error): void => {
      secure.destroy();
      reject(error);
    };
    secure.setTimeout(CONNECT_TIMEOUT_MS, () => fail(codedError('ETIMEDOUT')));
    secure.once('error', fail);
    secure.once('secureConnect', () => {
      secure.setTimeout(0);
      secure.removeAllListeners('timeout');
      secure.off('error', fail);
      resolve(secure);
    });
  });
}

const UNREACHABLE = [
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
  'EADDRNOTAVAIL',
  'EAFNOSUPPORT',
  'EINVAL',
];

function isUnreachable(error: unknown): boolean {
  return error instanceof Error && UNREACHABLE.includes((error as { code?: string }).code ?? '');
}

function codedError(code: string): Error {
  return Object.assign(new Error(code), { code });
}
