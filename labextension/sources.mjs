// Prints the hash of all that the assets are built from; tests/test_labextension.py holds it beside them.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';

const files = ['package.json', 'package-lock.json', 'tsconfig.json'];
for (const folder of ['src', 'style']) {
  files.push(...readdirSync(folder).map(name => `${folder}/${name}`));
}
const hash = createHash('sha256');
for (const name of files.sort()) {
  hash.update(`${name}\0`).update(readFileSync(name)).update('\0');
}
console.log(hash.digest('hex'));
