import { describe } from 'vitest';
import { sameAsNode } from './same-as-node.ts';

// A key pair of 1,024 bits: to find primes takes the guest a second or more.
const RSA = {
  kty: 'RSA',
  n: 'zmuUQs5IVmwRZB4In28E5cjK96fpCpK41NylPdUOJL2AKveiOEJJaLppsfWGffPY6BkwaksxIlTrphDDXwkeC0XuC0ESmWJ7BAmHXIY0Eh4Lf1QEfCXHoIYsGm3fItyX2aZMHHnpgXqblCjSEMPFXgyJnNtoTsQcZHHrQ1hWu6k',
  e: 'AQAB',
  d: 's7LJviLQrJOlzC-tOAaxD81ujIzbfn3edEilfZ-lkWx7UGyGB04FlCt8ahUhgTKwaNXM5SwSWR3ui4JaYriQMpXbYoMU5APaS4DDgnHL9sH5jx_EZNszM57EY_zF91LIvmmccjEgLbayc5l3xL9LBDaShSElJmZ-Ss2ZA_z9gAU',
  p: '6mUMyk-i8F68cHmqPp0ujqKrmSDRsYwq5s4iy-R2fkfQHFJz5FcUOOfqQUlUMk5R9MNAwRFodVQEQvMzeYCp7w',
  q: '4XJsJdzVqPRQ_S_EA_6b9L5lEHbQ58qpAQKEifyzdqwtlh0EdWqD4F9RtQxxtdxQNnQ8CjYzNDrNpCY2lbHr5w',
  dp: 'WhijdPRtdiWEG1u4w76ZUbxXZ1HFKJDvQK6Fk4fqwBmMdgZ_g4qxPDpwwc2U7o1KVWHj9xJg65By3uUqqQ56ww',
  dq: '35GX_Ag-fdkjA6G9sfRo9lFlaelaC7Mm3BCCHVDTK8ldP7Mw-7uQYg5EudVIYn_Dr-yeqcXMC2yRB8q5cMPLWw',
  qi: 'dfL03Gj148136zTlEvGfyr7LkthkhAQ_Hb9eF1Ui-IjaTa9KPgA-l2Zi4t2ps58vCrVWx0atZWQa9w449Nkilw',
};
const rsaPair = (name: string): string =>
  `(async () => { const d = ${JSON.stringify(RSA)}, a = { name: '${name}', hash: 'SHA-256' }; return { publicKey: await s.importKey('jwk', { kty: d.kty, n: d.n, e: d.e }, a, true, ['verify']), privateKey: await s.importKey('jwk', d, a, true, ['sign']) } })()`;

const B = (body: string): string =>
  `{const hex = (b) => new Uint8Array(b).toHex(); const te = (s) => new TextEncoder().encode(s); const s = crypto.subtle; const fix = (n) => new Uint8Array(n).map((_, i) => i * 7 + 1); ${body}}`;

describe('crypto answers as Node’s Web Crypto does', () => {
  sameAsNode('crypto', [
    ...['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512', 'sha-256', 'MD5', 'SHA-3'].map((h) =>
      B(`return hex(await s.digest('${h}',te('abc')))`),
    ),
    B(`return hex(await s.digest({name:'SHA-256'},te('abc').buffer))`),
    B(`return hex(await s.digest('SHA-256',new DataView(te('abcd').buffer,1,2)))`),
    B(`return hex(await s.digest('SHA-256','x'))`),
    B(`return await s.digest('SHA-256',te('x')) instanceof ArrayBuffer`),
    ...['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512'].map((h) =>
      B(
        `const k=await s.importKey('raw',te('key'),{name:'HMAC',hash:'${h}'},true,['sign','verify']); const sig=await s.sign('HMAC',k,te('data')); return [hex(sig),await s.verify('HMAC',k,sig,te('data')),await s.verify('HMAC',k,sig,te('datb')),await s.verify('HMAC',k,new Uint8Array(3),te('data')),hex(await s.exportKey('raw',k)),k.type,k.extractable,k.algorithm,k.usages]`,
      ),
    ),
    B(
      `const k=await s.importKey('raw',te('key'),{name:'HMAC',hash:{name:'SHA-256'}},false,['sign']); return hex(await s.exportKey('raw',k))`,
    ),
    B(
      `const k=await s.importKey('raw',te('key'),{name:'HMAC',hash:{name:'SHA-256'}},false,['verify']); return hex(await s.sign('HMAC',k,te('x')))`,
    ),
    B(
      `const k=await s.importKey('raw',te('key'),{name:'hmac',hash:'sha-256'},false,['sign']); return [k.algorithm,hex(await s.sign({name:'HMAC'},k,te('x')))]`,
    ),
    B(
      `const k=await s.importKey('jwk',{kty:'oct',k:'a2V5',alg:'HS256'},{name:'HMAC',hash:'SHA-256'},false,['sign']); return [hex(await s.sign({name:'HMAC'},k,te('x')))]`,
    ),
    ...['AES-GCM', 'AES-CBC', 'AES-CTR'].flatMap((a) =>
      [16, 24, 32].map((n) =>
        B(
          `const k=await s.importKey('raw',fix(${n}),'${a}',true,['encrypt','decrypt']); const p={name:'${a}',iv:fix(${a === 'AES-GCM' ? 12 : 16}),counter:fix(16),length:64}; const c=await s.encrypt(p,k,te('hello world, this is long enough')); return [hex(c),new TextDecoder().decode(await s.decrypt(p,k,c)),k.algorithm,k.usages,k.type]`,
        ),
      ),
    ),
    B(
      `const k=await s.importKey('raw',fix(16),'AES-GCM',true,['encrypt','decrypt']); const p={name:'AES-GCM',iv:fix(12),additionalData:te('aad'),tagLength:96}; const c=await s.encrypt(p,k,te('hi')); return [hex(c),hex(await s.decrypt(p,k,c))]`,
    ),
    B(
      `const k=await s.importKey('raw',fix(16),'AES-GCM',true,['encrypt','decrypt']); const p={name:'AES-GCM',iv:fix(12)}; const c=new Uint8Array(await s.encrypt(p,k,te('hi'))); c[0]^=1; return hex(await s.decrypt(p,k,c))`,
    ),
    B(`const k=await s.importKey('raw',fix(15),'AES-GCM',true,['encrypt','decrypt']); return 1`),
    ...['SHA-1', 'SHA-256', 'SHA-512'].map((h) =>
      B(
        `const k=await s.importKey('raw',te('pw'),'PBKDF2',false,['deriveBits','deriveKey']); return [hex(await s.deriveBits({name:'PBKDF2',hash:'${h}',salt:te('salt'),iterations:10},k,256)), hex(await s.exportKey('raw',await s.deriveKey({name:'PBKDF2',hash:'${h}',salt:te('salt'),iterations:10},k,{name:'AES-GCM',length:128},true,['encrypt'])))]`,
      ),
    ),
    ...['SHA-256', 'SHA-512'].map((h) =>
      B(
        `const k=await s.importKey('raw',te('pw'),'HKDF',false,['deriveBits','deriveKey']); return hex(await s.deriveBits({name:'HKDF',hash:'${h}',salt:te('salt'),info:te('i')},k,384))`,
      ),
    ),
    B(
      `const k=await s.importKey('raw',te('pw'),'HKDF',false,['deriveBits','deriveKey']); const d=await s.deriveKey({name:'HKDF',hash:'SHA-256',salt:te('salt'),info:te('i')},k,{name:'HMAC',hash:'SHA-256'},true,['sign']); return [d.algorithm, hex(await s.exportKey('raw',d))]`,
    ),
    ...['P-256', 'P-384', 'P-521'].flatMap((c) => [
      B(
        `const k=await s.generateKey({name:'ECDSA',namedCurve:'${c}'},true,['sign','verify']); const sig=await s.sign({name:'ECDSA',hash:'SHA-256'},k.privateKey,te('x')); const pub=await s.importKey('spki',await s.exportKey('spki',k.publicKey),{name:'ECDSA',namedCurve:'${c}'},true,['verify']); const prv=await s.importKey('pkcs8',await s.exportKey('pkcs8',k.privateKey),{name:'ECDSA',namedCurve:'${c}'},true,['sign']); const sig2=await s.sign({name:'ECDSA',hash:'SHA-512'},prv,te('x')); return [sig.byteLength,await s.verify({name:'ECDSA',hash:'SHA-256'},pub,sig,te('x')),await s.verify({name:'ECDSA',hash:'SHA-512'},pub,sig2,te('x')),await s.verify({name:'ECDSA',hash:'SHA-256'},k.publicKey,sig,te('y')),k.publicKey.type,k.privateKey.type,k.publicKey.algorithm,k.publicKey.usages,k.privateKey.usages,(await s.exportKey('raw',pub)).byteLength]`,
      ),
      B(
        `const a=await s.generateKey({name:'ECDH',namedCurve:'${c}'},true,['deriveBits']); const b=await s.generateKey({name:'ECDH',namedCurve:'${c}'},true,['deriveBits']); const x=await s.deriveBits({name:'ECDH',public:b.publicKey},a.privateKey,256); const y=await s.deriveBits({name:'ECDH',public:a.publicKey},b.privateKey,256); return [hex(x)===hex(y),x.byteLength]`,
      ),
    ]),
    B(
      `const k=await s.generateKey({name:'Ed25519'},true,['sign','verify']); const sig=await s.sign('Ed25519',k.privateKey,te('x')); return [sig.byteLength,await s.verify('Ed25519',k.publicKey,sig,te('x'))]`,
    ),
    ...['RSASSA-PKCS1-v1_5', 'RSA-PSS'].map((a) =>
      B(
        `const k=await ${rsaPair(a)}; const p={name:'${a}',saltLength:32}; const sig=await s.sign(p,k.privateKey,te('x')); const pub=await s.importKey('spki',await s.exportKey('spki',k.publicKey),{name:'${a}',hash:'SHA-256'},true,['verify']); return [sig.byteLength,await s.verify(p,pub,sig,te('x')),await s.verify(p,pub,sig,te('y')),k.publicKey.algorithm.name,k.publicKey.algorithm.modulusLength,k.publicKey.algorithm.hash, pub.algorithm.modulusLength]`,
      ),
    ),
    B(
      `const k=await s.generateKey({name:'RSA-OAEP',modulusLength:1024,publicExponent:new Uint8Array([1,0,1]),hash:'SHA-256'},true,['encrypt','decrypt']); const c=await s.encrypt({name:'RSA-OAEP'},k.publicKey,te('x')); return [c.byteLength,hex(await s.decrypt({name:'RSA-OAEP'},k.privateKey,c))]`,
    ),
    B(
      `const k=await s.generateKey({name:'HMAC',hash:'SHA-512'},true,['sign']); return [k.algorithm,(await s.exportKey('raw',k)).byteLength]`,
    ),
    B(
      `const k=await s.generateKey({name:'AES-GCM',length:256},true,['encrypt']); const j=await s.exportKey('jwk',k); return [j.kty,j.alg,j.key_ops,j.ext,j.k.length]`,
    ),
    B(`return s.importKey('raw',fix(16),'AES-GCM',true,['sign'])`),
    B(`return s.importKey('raw',fix(16),'NOPE',true,['sign'])`),
    B(`return s.generateKey({name:'AES-GCM',length:128},true,[])`),
    B(`return s.digest()`),
    B(`return crypto.getRandomValues(new Uint8Array(65537))`),
    B(`return crypto.getRandomValues(new Float32Array(2))`),
    B(`return crypto.getRandomValues([1])`),
    B(`const a=new Uint16Array(4);return [crypto.getRandomValues(a)===a]`),
    B(`return /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID())`),
    B(`return crypto.getRandomValues(new BigInt64Array(2)).length`),
    B(`return crypto.getRandomValues(new Uint8Array(0)).length`),
    B(`const b=new Uint8Array(8);crypto.getRandomValues(b.subarray(2,4));return [b[0],b[7]]`),
    B(`return String(Object.prototype.toString.call(crypto.subtle))`),
    B(`new CryptoKey()`),
    B(
      `const k=await s.importKey('raw',te('key'),{name:'HMAC',hash:'SHA-256'},true,['sign']); return Object.prototype.toString.call(k)`,
    ),
    // keys in every format, there and back; what Node exports is what the guest exports
    ...['P-256', 'P-384', 'P-521'].map((c) =>
      B(
        `const k = await s.generateKey({ name: 'ECDSA', namedCurve: '${c}' }, true, ['sign', 'verify']); const out = []; const data = te('m'); const sig = await s.sign({ name: 'ECDSA', hash: 'SHA-256' }, k.privateKey, data); for (const f of ['spki', 'raw', 'jwk']) { const p = await s.importKey(f, await s.exportKey(f, k.publicKey), { name: 'ECDSA', namedCurve: '${c}' }, true, ['verify']); out.push(await s.verify({ name: 'ECDSA', hash: 'SHA-256' }, p, sig, data)); } for (const f of ['pkcs8', 'jwk']) { const p = await s.importKey(f, await s.exportKey(f, k.privateKey), { name: 'ECDSA', namedCurve: '${c}' }, true, ['sign']); const g = await s.sign({ name: 'ECDSA', hash: 'SHA-384' }, p, data); out.push(await s.verify({ name: 'ECDSA', hash: 'SHA-384' }, k.publicKey, g, data)); } const j = await s.exportKey('jwk', k.privateKey); return [out, Object.keys(j).sort(), j.kty, j.crv, (await s.exportKey('spki', k.publicKey)).byteLength, (await s.exportKey('pkcs8', k.privateKey)).byteLength]`,
      ),
    ),
    ...['RSASSA-PKCS1-v1_5', 'RSA-PSS'].map((a) =>
      B(
        `const k = await ${rsaPair(a)}; const out = []; const data = te('m'); const p = { name: '${a}', saltLength: 32 }; const sig = await s.sign(p, k.privateKey, data); for (const f of ['spki', 'jwk']) out.push(await s.verify(p, await s.importKey(f, await s.exportKey(f, k.publicKey), { name: '${a}', hash: 'SHA-256' }, true, ['verify']), sig, data)); for (const f of ['pkcs8', 'jwk']) out.push(await s.verify(p, k.publicKey, await s.sign(p, await s.importKey(f, await s.exportKey(f, k.privateKey), { name: '${a}', hash: 'SHA-256' }, true, ['sign']), data), data)); const j = await s.exportKey('jwk', k.publicKey); return [out, Object.keys(j).sort(), j.alg, j.e, k.publicKey.algorithm, k.publicKey.usages, k.privateKey.usages]`,
      ),
    ),
    B(
      `const jwk = { kty: 'OKP', crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo', d: 'nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A' }; const prv = await s.importKey('jwk', jwk, 'Ed25519', true, ['sign']); const pub = await s.importKey('raw', Uint8Array.fromBase64(jwk.x, { alphabet: 'base64url' }), 'Ed25519', true, ['verify']); const sig = await s.sign('Ed25519', prv, te('hello')); return [hex(sig), await s.verify('Ed25519', pub, sig, te('hello')), await s.verify('Ed25519', pub, sig, te('hellO')), await s.verify('Ed25519', pub, new Uint8Array(64), te('x')), hex(await s.exportKey('spki', pub)), hex(await s.exportKey('pkcs8', prv)), prv.algorithm]`,
    ),
    B(
      `const jwk = { kty: 'EC', crv: 'P-256', x: 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU', y: 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0', d: 'jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI' }; const k = await s.importKey('jwk', jwk, { name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign']); return [hex(await s.exportKey('pkcs8', k)), await s.exportKey('jwk', k)].length`,
    ),
    B(
      `const kek = await s.importKey('raw', fix(16), 'AES-GCM', true, ['wrapKey', 'unwrapKey']); const d = await s.importKey('raw', fix(32), { name: 'HMAC', hash: 'SHA-256' }, true, ['sign']); const p = { name: 'AES-GCM', iv: fix(12) }; const w = await s.wrapKey('jwk', d, kek, p); const u = await s.unwrapKey('jwk', w, kek, p, { name: 'HMAC', hash: 'SHA-256' }, true, ['sign']); return hex(await s.exportKey('raw', u))`,
    ),
    B(
      `const k = await s.importKey('raw', fix(16), 'AES-GCM', true, ['encrypt', 'decrypt']); const p = { name: 'AES-GCM', iv: fix(12), tagLength: 32 }; const c = new Uint8Array(await s.encrypt(p, k, te('hi'))); const bad = c.slice(); bad[0] ^= 1; return [hex(c), hex(await s.decrypt(p, k, c)), await s.decrypt(p, k, bad).catch((e) => e.name)]`,
    ),
    B(
      `return s.encrypt({ name: 'AES-CBC', iv: fix(15) }, await s.importKey('raw', fix(16), 'AES-CBC', true, ['encrypt']), te('x'))`,
    ),
    B(`return s.exportKey('spki', await s.importKey('raw', fix(16), 'AES-CBC', true, ['encrypt']))`),
    B(`return s.importKey('raw', fix(16), 'AES-GCM', true, [])`),
    B(`return s.importKey('raw', fix(16), 'AES-GCM', true, ['nope'])`),
    B(`return s.sign('HMAC', {}, te('x'))`),
    B(`return s.importKey('spki', fix(20), { name: 'ECDSA', namedCurve: 'P-256' }, true, ['verify'])`),
    B(`return s.importKey('raw', te('k'), 'HKDF', true, ['deriveBits'])`),
    B(
      `const k = await s.importKey('raw', te('k'), { name: 'HMAC', hash: 'SHA-1' }, true, ['sign']); return s.exportKey('jwk', k)`,
    ),
  ]);
});
