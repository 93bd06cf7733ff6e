/** How scripts and CommonJS modules come to have exports that the sandbox finds. */

const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$\u200c\u200d]{0,126}$/u;
/** Words that can't be bound by a declaration; as the name of an export they are fine. */
const RESERVED = new Set(
  (
    'break case catch class const continue debugger default delete do else enum export extends false finally for function ' +
    'if import in instanceof new null return super switch this throw true try typeof var void while with yield let static ' +
    'await implements interface package private protected public'
  ).split(' '),
);

export function isIdentifier(name: string): boolean {
  return IDENTIFIER.test(name);
}

/** A script exports nothing: its top-level declaration of the handler's name becomes the export. Appended to it. */
export function scriptFooter(handlerName: string): string {
  if (RESERVED.has(handlerName)) return '';
  const optional = (name: string): string => `${name}: typeof ${name} === 'undefined' ? undefined : ${name}`;
  return `module.exports = { ${optional(handlerName)}, ${optional('config')} };`;
}

/**
 * The sandbox looks for the handler among a module's exports and on its default export. CommonJS that was compiled from
 * an ES module (`__esModule`) may have its own default export, e.g. `{ fetch }`, one level further down.
 */
export function adapterSource(specifier: string, handlerName: string): string {
  const name = JSON.stringify(handlerName);
  return `const exported = require(${JSON.stringify(specifier)});
const found = exported !== null && (typeof exported === 'object' || typeof exported === 'function') ? exported : {};
export default found.__esModule && typeof found[${name}] !== 'function' && found.default !== undefined ? found.default : exported;
export const config = found.config;
`;
}
