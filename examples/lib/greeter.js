const { exclaim } = require('punctuation');

module.exports = { greet: (name) => exclaim(`Hello, ${name}`) };
