import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AllowList } from '../../host-functions/http/allow-list.ts';
import { canonicalAddress, isGlobalUnicast } from '../../host-functions/http/ip-address.ts';

const allows = (entries: string[], url: string): boolean =>
  URL.canParse(url) && new AllowList(entries).allows(new URL(url));

describe('NET-02 NET-03 addresses that a listed name may not lead to', () => {
  test.each([
    '127.0.0.1',
    '127.255.255.254',
    '0.0.0.0',
    '10.1.2.3',
    '100.64.0.1',
    '100.100.100.200',
    '169.254.169.254',
    '172.16.0.1',
    '172.31.255.255',
    '192.0.0.1',
    '192.0.0.192',
    '192.0.2.1',
    '192.88.99.1',
    '192.168.0.1',
    '198.18.0.1',
    '198.51.100.1',
    '203.0.113.1',
    '224.0.0.1',
    '240.0.0.1',
    '255.255.255.255',
    '168.63.129.16',
    '::',
    '::1',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '::ffff:8.8.8.8'.replace('8.8.8.8', '10.0.0.1'),
    '::127.0.0.1',
    '::7f00:1',
    '64:ff9b::7f00:1',
    '64:ff9b::8.8.8.8',
    '64:ff9b:1::1',
    '2002:7f00:1::',
    '2002:808:808::',
    '2001::1',
    '2001:db8::1',
    '3fff::1',
    'fe80::1',
    'fec0::1',
    'fc00::1',
    'fd00:ec2::254',
    'ff02::1',
    '100::1',
    '5f00::1',
    '0:0:0:0:0:ffff:a9fe:a9fe',
  ])('%s is not global', (address) => {
    expect(isGlobalUnicast(canonicalAddress(address) as string)).toBe(false);
  });

  test.each([
    '8.8.8.8',
    '1.1.1.1',
    '172.15.0.1',
    '172.32.0.1',
    '100.63.0.1',
    '100.128.0.1',
    '2606:4700:4700::1111',
    '2a00:1450:4001::1',
    '::ffff:8.8.8.8',
  ])('%s is global', (address) => {
    expect(isGlobalUnicast(canonicalAddress(address) as string)).toBe(true);
  });

  test.each(['fe80::1%eth0', '1.2.3', '127.1', '0x7f.1', 'localhost', '', '1.2.3.4.5', ':::'])(
    '%s is no address',
    (text) => {
      expect(canonicalAddress(text)).toBeUndefined();
    },
  );

  test('no spelling of an IPv4 address inside IPv6 is global, unless it is the mapped one of a global address', () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.constantFrom('::', '::ffff:', '::ffff:0:', '64:ff9b::'), (address, prefix) => {
        const canonical = canonicalAddress(prefix + address) as string;
        return isGlobalUnicast(canonical) === (prefix === '::ffff:' && isGlobalUnicast(address));
      }),
    );
  });
});

describe('NET-08 NET-17 allow-list entries', () => {
  test.each<[string[], string, boolean]>([
    [['api.stripe.com'], 'https://api.stripe.com/v1/charges?x=1', true],
    [['api.stripe.com'], 'https://API.Stripe.com/', true],
    [['api.stripe.com'], 'https://api.stripe.com:443/', true],
    [['api.stripe.com'], 'http://api.stripe.com/', false],
    [['api.stripe.com'], 'https://api.stripe.com:8443/', false],
    [['api.stripe.com:8443'], 'https://api.stripe.com:8443/', true],
    [['api.stripe.com'], 'https://api.stripe.com./', false],
    [['api.stripe.com'], 'https://api.stripe.com.evil.test/', false],
    [['api.stripe.com'], 'https://evilapi.stripe.com/', false],
    [['api.stripe.com'], 'https://stripe.com/', false],
    [['api.stripe.com'], 'https://api.stripe.com@evil.test/', false],
    [['api.stripe.com'], 'https://evil.test#@api.stripe.com/', false],
    [['api.stripe.com'], 'https://evil.test\\@api.stripe.com/', false],
    [['allowed.example'], 'https://allowed.example%2eevil.test/', false],
    [['allowed.example'], 'https://аllowed.example/', false],
    [['example.com'], 'https://ＥＸＡＭＰＬＥ.com/', true],
    [['example.com'], 'https://exa\tmple\n.com/', true],
    [['example.com'], 'https://example.com\t.evil.test/', false],
    [['example.com'], 'https://evil.test\\.example.com/', false],
    [['example.com'], 'https://example.com:443@evil.test/', false],
    [['example.com'], 'https://example.com%00.evil.test/', false],
    [['example.com'], 'https://example。com/', true],
    [['example.com'], 'https://xn--exmple-cua.com/', false],
    [['*.example.com'], 'https://a.example.com./', false],
    [['*.example.com'], 'https://.example.com/', false],
    [['http://example.com'], 'http://example.com:22/', false],
    [['http://example.com'], 'http://example.com:6379/', false],
    [['bücher.example'], 'https://xn--bcher-kva.example/', true],
    [['*.example.com'], 'https://a.example.com/', true],
    [['*.example.com'], 'https://a.b.example.com/', true],
    [['*.example.com'], 'https://example.com/', false],
    [['*.example.com'], 'https://example.com.evil/', false],
    [['*.example.com'], 'https://notexample.com/', false],
    [['http://intra.example.com:8080'], 'http://intra.example.com:8080/', true],
    [['http://intra.example.com:8080'], 'https://intra.example.com:8080/', false],
    [['localhost:9000'], 'http://localhost:9000/', true],
    [['localhost:9000'], 'http://localhost:9001/', false],
    [['localhost:9000'], 'http://127.0.0.1:9000/', false],
    [['127.0.0.1:9000'], 'http://127.0.0.1:9000/', true],
    [['127.0.0.1:9000'], 'http://2130706433:9000/', true],
    [['example.com'], 'http://127.0.0.1/', false],
    [[], 'https://example.com/', false],
  ])('%j and %s: %s', (entries, url, expected) => {
    expect(allows(entries, url)).toBe(expected);
  });

  test.each([
    '*',
    '*.',
    '*.com',
    '**.example.com',
    '*example.com',
    'a.*.com',
    '',
    ' ',
    'example.com/path',
    'user@example.com',
    'ftp://example.com',
    'example.com:99999',
    'example.com.',
    '*.1.2.3.4',
    '2130706433',
    '0x7f.1',
    '127.1',
    '[::ffff:127.0.0.1]',
    'exa mple.com',
  ])('NET-17 the entry %j is refused at deploy', (entry) => {
    expect(() => new AllowList([entry])).toThrow(expect.objectContaining({ code: 'INVALID_FUNCTION' }));
  });

  test.each([
    '169.254.169.254',
    'http://169.254.169.254',
    '[fd00:ec2::254]',
    'metadata.google.internal',
    '100.100.100.200',
    '168.63.129.16',
  ])('NET-03 the entry %s is refused', (entry) => {
    expect(() => new AllowList([entry])).toThrow(expect.objectContaining({ code: 'INVALID_FUNCTION' }));
  });

  test.each([0, 22, 25, 53, 110, 143, 445, 465, 587, 2375, 5432, 6379, 6432, 3306, 11211, 27017])(
    'NET-09 port %i can not be listed',
    (port) => {
      expect(() => new AllowList([`example.com:${port}`])).toThrow(
        expect.objectContaining({ code: 'INVALID_FUNCTION' }),
      );
    },
  );
});
