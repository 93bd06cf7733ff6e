import { PosternError } from '../../runtime/index.ts';
import { canonicalAddress, isGlobalUnicast, isLoopback, isMetadataAddress } from './ip-address.ts';

/**
 * A function's `http.allow`. An entry is a host as a URL would have it, compared exactly on the parsed ASCII form:
 *
 * | entry | allows |
 * |---|---|
 * | `api.stripe.com` | https, port 443 |
 * | `api.example.com:8443` | https, that port |
 * | `*.example.com` | https, every name below example.com at any depth, not example.com itself |
 * | `http://intra.example.com`, `http://…:8080` | http, that port |
 * | `localhost:9000`, `127.0.0.1:9000`, `[::1]:9000` | http and https, that port, and the loopback address |
 * | `10.0.0.5`, `http://10.0.0.5:8080`, `[2001:db8::1]` | that address; also for a listed name that resolves to it |
 *
 * A name that is listed is reached only at global addresses. `localhost` alone stands for loopback. Metadata services
 * can't be listed, nor ports of mail, databases and the like.
 */

export interface AllowEntry {
  readonly text: string;
  readonly protocols: readonly string[];
  /** ASCII host in lower case, without brackets; for a wildcard what follows `*`, with its dot. */
  readonly host: string;
  readonly wildcard: boolean;
  readonly port: number;
}

/** The WHATWG fetch standard's bad ports, and databases that answer to text. */
const BLOCKED_PORTS: ReadonlySet<number> = new Set([
  0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
  111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 445, 465, 512, 513, 514, 515, 526, 530, 531,
  532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1433, 1521, 1719, 1720, 1723, 2049, 2375, 2376, 2379,
  3306, 3659, 4045, 4190, 5060, 5061, 5432, 6000, 6379, 6432, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
  11211, 27017,
]);

const METADATA_NAMES: ReadonlySet<string> = new Set([
  'metadata.google.internal',
  'metadata.goog',
  'metadata',
  'instance-data',
]);

export class AllowList {
  readonly #entries: readonly AllowEntry[];

  /** Throws INVALID_FUNCTION, naming the entry. */
  constructor(entries: readonly string[]) {
    this.#entries = entries.map(parseAllowEntry);
  }

  /** Whether a request to this URL may be made, as far as the URL says. */
  allows(url: URL): boolean {
    const host = bareHost(url);
    const port = portOf(url);
    if (isForbidden(host, port)) return false;
    return this.#entries.some(
      (entry) => entry.port === port && entry.protocols.includes(url.protocol) && matches(entry, host),
    );
  }

  /**
   * Whether a connection to `address` may be made for a request to `host`, which `allows` has passed. For names:
   * a global address, loopback for localhost, or an address that is listed itself with this port.
   */
  allowsAddress(host: string, port: number, address: string): boolean {
    if (isMetadataAddress(address)) return false;
    if (isGlobalUnicast(address)) return true;
    if (host === 'localhost') return isLoopback(address);
    return this.#entries.some(
      (entry) => !entry.wildcard && entry.port === port && canonicalAddress(entry.host) === address,
    );
  }
}

export function parseAllowEntry(text: string): AllowEntry {
  const parts = /^(?:(https?):\/\/)?(\*\.)?([^/?#@\\\s*]+)$/.exec(text);
  if (parts === null) throw invalidEntry(text, 'is not a host, *.host, host:port or scheme://host');
  const [, scheme, star, rest] = parts as unknown as [string, string | undefined, string | undefined, string];
  const url = parseUrl(`${scheme ?? 'https'}://${rest}`);
  if (url === undefined || url.username !== '' || hasTrailingDot(url.hostname))
    throw invalidEntry(text, 'is not a valid host');
  const host = bareHost(url);
  if (canonicalAddress(host) !== undefined && rest.replace(/:\d+$/, '').replace(/^\[|\]$/g, '') !== host) {
    throw invalidEntry(text, `is the address ${host}: write it so`);
  }
  if (star !== undefined) checkWildcard(text, host);
  const loopback = host === 'localhost' || isLoopback(canonicalAddress(host) ?? '');
  const protocols = scheme !== undefined ? [`${scheme}:`] : loopback ? ['http:', 'https:'] : ['https:'];
  const port = loopback && scheme === undefined && /:80$/.test(rest) ? 80 : portOf(url);
  if (isForbidden(host, port)) throw invalidEntry(text, 'names a host or port that functions never reach');
  return { text, protocols, host: star === undefined ? host : `.${host}`, wildcard: star !== undefined, port };
}

function checkWildcard(text: string, host: string): void {
  if (canonicalAddress(host) !== undefined) throw invalidEntry(text, 'puts a wildcard before an address');
  if (!host.includes('.') || REGISTRY.test(host))
    throw invalidEntry(text, 'is too wide: a wildcard needs a name of somebody behind it, as in *.example.com');
}

/** What anybody may register under, of two labels: `co.uk`, `com.au`. Best effort: the whole list has ten thousand entries. */
const REGISTRY = /^(?:ac|co|com|edu|gob|gov|gouv|mil|ne|net|nom|or|org|sch)\.[a-z]{2}$/;

function matches(entry: AllowEntry, host: string): boolean {
  return entry.wildcard ? host.endsWith(entry.host) && host.length > entry.host.length : host === entry.host;
}

function isForbidden(host: string, port: number): boolean {
  return BLOCKED_PORTS.has(port) || METADATA_NAMES.has(host) || isMetadataAddress(canonicalAddress(host) ?? '');
}

/** Without IPv6's brackets; mapped IPv4 as IPv4. */
export function bareHost(url: URL): string {
  const { hostname } = url;
  if (!hostname.startsWith('[')) return hostname;
  const address = hostname.slice(1, -1);
  return canonicalAddress(address) ?? address;
}

export function portOf(url: URL): number {
  return url.port === '' ? (url.protocol === 'http:' ? 80 : 443) : Number(url.port);
}

function hasTrailingDot(hostname: string): boolean {
  return hostname.endsWith('.') || hostname === '';
}

function parseUrl(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined;
}

function invalidEntry(text: string, why: string): PosternError {
  return new PosternError('INVALID_FUNCTION', `http.allow: ${JSON.stringify(text)} ${why}`, {
    details: { field: 'http.allow', given: text },
  });
}
