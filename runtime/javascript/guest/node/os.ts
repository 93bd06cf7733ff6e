/** node:os: what is the same in every sandbox, and tells nothing of the machine. */
export const EOL = '\n';
export const devNull = '/dev/null';
export const arch = (): string => 'wasm32';
export const platform = (): string => 'linux';
export const type = (): string => 'Linux';
export const release = (): string => '';
export const version = (): string => '';
export const machine = (): string => 'wasm32';
export const hostname = (): string => 'postern';
export const homedir = (): string => '/';
export const tmpdir = (): string => '/tmp';
export const endianness = (): string => 'LE';
export const cpus = (): object[] => [];
export const availableParallelism = (): number => 1;
export const totalmem = (): number => 0;
export const freemem = (): number => 0;
export const loadavg = (): number[] => [0, 0, 0];
export const uptime = (): number => 0;
export const networkInterfaces = (): object => ({});
export const userInfo = (): object => ({ uid: -1, gid: -1, username: '', homedir: '/', shell: null });
export const constants = { signals: {}, errno: {}, priority: {} };
export default {
  EOL,
  devNull,
  arch,
  platform,
  type,
  release,
  version,
  machine,
  hostname,
  homedir,
  tmpdir,
  endianness,
  cpus,
  availableParallelism,
  totalmem,
  freemem,
  loadavg,
  uptime,
  networkInterfaces,
  userInfo,
  constants,
};
