// What the client's tests find in their own runner: `test`, and the two expectations that they use. Deliberately absent: that
// runner itself, which brings some hundred packages.

import assert from 'node:assert';
import { test } from 'node:test';

globalThis.test = test;

globalThis.expect = (value) => ({
  toBeDefined: () => assert.notStrictEqual(value, undefined),
  toMatchObject: (expected) => {
    for (const [name, part] of Object.entries(expected)) assert.deepStrictEqual(value[name], part, name);
  },
});
