/** A node in a process of its own, as `serve` runs it, for benchmarks: reads its options from argv, says where it is. */

import { signToken } from '../../cli/dev-keys.ts';
import { readStartOptions, startPostern } from '../../server/index.ts';

const { dataDir, functions } = JSON.parse(process.argv[2] as string) as {
  dataDir: string;
  functions: { name: string; source: string; config?: Record<string, unknown> }[];
};
const postern = await startPostern(readStartOptions(process.env, { mode: 'dev', port: 0, dataDir }));
for (const { name, source, config } of functions) {
  await postern.deployer.deploy({ source, fileName: `${name}.js`, config: { name, ...config } });
}
const token = await signToken(postern.jwtSecret!, 'authenticated');
process.stdout.write(`ready ${JSON.stringify({ url: postern.url, token, databaseUrl: postern.databaseUrl })}\n`);
process.on('SIGTERM', () => void postern.stop().then(() => process.exit(0)));
