/**
 * What the `node:` modules of a function lack of Node 26's exports; names with spaces between. Modules that are not here
 * are not there at all.
 */
export const MISSING_EXPORTS: Readonly<Record<string, string>> = {
  assert: 'Assert partialDeepStrictEqual',
  'assert/strict': 'Assert partialDeepStrictEqual',
  async_hooks: 'asyncWrapProviders',
  buffer: 'resolveObjectURL transcode',
  crypto:
    'Certificate Cipheriv Decipheriv DiffieHellman DiffieHellmanGroup ECDH Sign Verify X509Certificate argon2 argon2Sync checkPrime checkPrimeSync constants createCipheriv createDecipheriv createDiffieHellman createDiffieHellmanGroup createECDH createMac createSign createVerify decapsulate diffieHellman encapsulate generateKey generateKeyPair generateKeyPairSync generateKeySync generatePrime generatePrimeSync getCipherInfo getDiffieHellman getFips getMacs parsePKCS12 privateDecrypt privateEncrypt publicDecrypt publicEncrypt randomUUIDv7 secureHeapUsed setEngine setFips sign verify',
  events: 'EventEmitterAsyncResource addAbortListener captureRejections init usingDomains',
  os: 'getPriority setPriority',
  path: '',
  'path/posix': '',
  process:
    'abort addUncaughtExceptionCaptureCallback allowedNodeEnvironmentFlags availableMemory binding chdir config constrainedMemory cpuUsage debugPort dlopen domain execve exitCode finalization getActiveResourcesInfo getBuiltinModule getegid geteuid getgid getgroups getuid hasUncaughtExceptionCaptureCallback initgroups kill loadEnvFile moduleLoadList openStdin reallyExit ref report resourceUsage setSourceMapsEnabled setUncaughtExceptionCaptureCallback setegid seteuid setgid setgroups setuid sourceMapsEnabled threadCpuUsage umask unref',
  querystring: 'unescapeBuffer',
  stream:
    'addAbortSignal compose destroy duplexPair getDefaultHighWaterMark isDestroyed isDisturbed isErrored isReadable isWritable setDefaultHighWaterMark',
  'stream/promises': '',
  string_decoder: '',
  timers: 'promises',
  'timers/promises': '',
  url: 'URLPattern fileURLToPathBuffer',
  util: 'MIMEParams MIMEType convertProcessSignalToExitCode debounce diff getCallSites getSystemErrorMap getSystemErrorMessage getSystemErrorName markPromiseAsHandled parseArgs parseEnv setTraceSigInt throttle transferableAbortController transferableAbortSignal',
  'util/types': 'isFloat16Array isKeyObject',
};
