/** Clears the screen, titles the window, asks it for an answer, links, turns text round, hides, and forges a line. */
export const EVIL = [
  '\u001b[2J\u001b]0;owned\u0007\u001b[6n\u001bP$q"p\u001b\\',
  '\u001b]8;;http://evil.example\u001b\\\u001b]52;c;ZWNobw==\u0007',
  '\u009b2J\u009d0;owned\u009c\u0090x\u007f\b\b\r',
  '\u202eevil\u2066\u200f\u061c\u2028\u2029\u0085\u00ad\u180e\u200b\ufeff\u{e0041}',
  '\ud800',
  '\nforged: line\n',
].join('');
/** Nothing of these may reach a terminal as it is. */
export const ACTS =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]|[\u{e0000}-\u{e007f}]|\p{Cs}/u;
