/** To be imported when an assistant asks, and not before: the SDK takes longer to load than most commands to run. */

export { type Access, askAccess } from './access.ts';
export { answerHttp, type Caller, type HttpMessage, type StdioStreams, serveStdio } from './server.ts';
