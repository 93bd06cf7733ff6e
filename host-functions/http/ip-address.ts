import net from 'node:net';

/**
 * Which addresses a function may be connected to when only a *name* is listed: global unicast, by an allow-list for IPv6
 * and a list of every special range for IPv4 (IANA's special-purpose registries, read 2026). `net.BlockList` is no help:
 * it does not see IPv4 inside NAT64, 6to4 or v4-compatible addresses. All of those are refused whole, mapped ones too.
 */

/** An address in one canonical spelling, or undefined for anything that is not one (scoped `fe80::1%eth0` included). */
export function canonicalAddress(text: string): string | undefined {
  if (net.isIPv4(text)) return text;
  if (!net.isIPv6(text) || text.includes('%')) return undefined;
  const address = new URL(`http://[${text}]/`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(address);
  if (mapped === null) return address;
  return [mapped[1], mapped[2]]
    .flatMap((group) => [Number.parseInt(group as string, 16) >> 8, Number.parseInt(group as string, 16) & 255])
    .join('.');
}

const SPECIAL_IPV4: readonly (readonly [string, number])[] = [
  ['0.0.0.0', 8], // this network
  ['10.0.0.0', 8], // private
  ['100.64.0.0', 10], // shared (CGNAT); Alibaba's metadata 100.100.100.200
  ['127.0.0.0', 8], // loopback
  ['168.63.129.16', 32], // Azure's host, a public address by registry
  ['169.254.0.0', 16], // link-local; metadata 169.254.169.254
  ['172.16.0.0', 12], // private
  ['192.0.0.0', 24], // protocol assignments; Oracle's metadata 192.0.0.192
  ['192.0.2.0', 24], // documentation
  ['192.31.196.0', 24], // AS112
  ['192.52.193.0', 24], // AMT
  ['192.88.99.0', 24], // 6to4 relays
  ['192.168.0.0', 16], // private
  ['192.175.48.0', 24], // AS112
  ['198.18.0.0', 15], // benchmarks
  ['198.51.100.0', 24], // documentation
  ['203.0.113.0', 24], // documentation
  ['224.0.0.0', 4], // multicast
  ['240.0.0.0', 4], // reserved, broadcast
];

/** Within 2000::/3, which is all that is global; NAT64, ULA, link-local, v4-mapped and v4-compatible lie outside. */
const SPECIAL_IPV6: readonly (readonly [string, number])[] = [
  ['2001::', 23], // protocol assignments: Teredo, ORCHID, benchmarks
  ['2001:db8::', 32], // documentation
  ['2002::', 16], // 6to4: an IPv4 address inside
  ['2620:4f:8000::', 48], // AS112
  ['3fff::', 20], // documentation
];

/** Addresses of cloud metadata services: refused even where the address itself is listed. */
const METADATA: ReadonlySet<string> = new Set([
  '169.254.169.254',
  '169.254.170.2',
  '169.254.170.23',
  'fd00:ec2::254',
  'fd00:ec2::23',
  'fd20:ce::254',
  '100.100.100.200',
  '168.63.129.16',
  '192.0.0.192',
]);

/** Expects canonical spelling. */
export function isMetadataAddress(address: string): boolean {
  return METADATA.has(address);
}

export function isLoopback(address: string): boolean {
  return address === '::1' || (net.isIPv4(address) && address.startsWith('127.'));
}

/** Expects canonical spelling. */
export function isGlobalUnicast(address: string): boolean {
  if (net.isIPv4(address))
    return !SPECIAL_IPV4.some(([base, bits]) => inRange(ipv4Bits(address), ipv4Bits(base), bits, 32));
  if (!net.isIPv6(address)) return false;
  const bits = ipv6Bits(address);
  if (bits >> 125n !== 1n) return false;
  return !SPECIAL_IPV6.some(([base, length]) => inRange(bits, ipv6Bits(base), length, 128));
}

function inRange(address: bigint, base: bigint, bits: number, width: number): boolean {
  const rest = BigInt(width - bits);
  return address >> rest === base >> rest;
}

function ipv4Bits(address: string): bigint {
  return address.split('.').reduce((bits, part) => (bits << 8n) | BigInt(part), 0n);
}

/** Expects hexadecimal groups only, as canonical spelling has. */
function ipv6Bits(address: string): bigint {
  const [head = '', tail] = address.split('::') as [string, string?];
  const left = groups(head);
  const right = groups(tail ?? '');
  const middle = tail === undefined ? [] : new Array<bigint>(8 - left.length - right.length).fill(0n);
  return [...left, ...middle, ...right].reduce((bits, group) => (bits << 16n) | group, 0n);
}

function groups(text: string): bigint[] {
  return text === '' ? [] : text.split(':').map((group) => BigInt(`0x${group}`));
}
