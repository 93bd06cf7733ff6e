/** Replays a recording that was saved, in this process and an executor of its own, without a server. */

import {
  buildEngineId,
  Evaluators,
  ExecutorPool,
  executorCommand,
  type FunctionVersion,
  loadEngineSource,
  ModuleBuilder,
  machineMemoryBytes,
  parseFunctionConfig,
  type RecordingFile,
  Replayer,
  readRecordingFile,
} from '../invoker/index.ts';
import { PosternError } from '../runtime/index.ts';
import { bundle } from '../runtime/javascript/bundle/index.ts';
import { replayReportOf } from '../server/index.ts';
import { type ReplayReport, readReplayReport } from './control-client.ts';

/**
 * `text`: of the file. eventJson: JSON text of another event. Rejects as `Replayer.replay`, and with INVALID_REQUEST where the
 * file is none, or of another engine.
 */
export async function replayRecording(text: string, eventJson: string | undefined): Promise<ReplayReport> {
  const file = await readRecordingFile(text);
  const engine = await loadEngineSource();
  const engineId = buildEngineId(engine);
  if (file.version !== undefined && file.engineId !== engineId) {
    const text =
      'the recording was saved by another release of Postern, whose engine this one has not: replay it with that release';
    throw new PosternError('INVALID_REQUEST', text);
  }
  const modules = new ModuleBuilder();
  const { recording } = file;
  const pool: ExecutorPool = new ExecutorPool({
    executors: 1,
    engine,
    command: executorCommand(),
    maxGrownBytes: Math.floor(machineMemoryBytes() / 2),
    loadPython: () => modules.python(),
    loadImage: (versionId) => evaluators.image(versionId) ?? imageOf(file),
    log: { executorStarted: () => {}, executorLost: () => {} },
  });
  const evaluators = new Evaluators({
    builder: { engineId, build: (request) => pool.build(request), buildModule: (request) => modules.build(request) },
    bundler: { bundle },
  });
  const replayer = new Replayer({
    catalog: {
      active: () => versionOf(file),
      version: async () => versionOf(file),
      image: () => imageOf(file),
    },
    pool,
    recordings: { get: async () => recording },
    evaluators,
    engineId,
  });
  try {
    await pool.start();
    return readReplayReport(replayReportOf(await replayer.replay({ id: recording.invocationId, eventJson })));
  } finally {
    await Promise.all([pool.stop(), evaluators.stop()]);
  }
}

function imageOf({ version }: RecordingFile): Uint8Array {
  if (version === undefined) throw new PosternError('INTERNAL_ERROR', 'an image is asked for that nothing needs');
  return version.image;
}

/** What it was given as variables is redacted all the same: which of them are secrets is not in the file. */
function versionOf({ recording, version }: RecordingFile): FunctionVersion {
  const { timeoutMs, memoryBytes, cpu } = version ?? {};
  const { functionName: name, version: number, versionId } = recording;
  return {
    functionId: 0,
    name,
    version: number,
    versionId,
    config: {
      ...parseFunctionConfig({ name }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      ...(memoryBytes === undefined ? {} : { memoryBytes }),
      ...(cpu === undefined ? {} : { cpu }),
    },
    envJson: '{}',
    redact: (text) => text,
  };
}
