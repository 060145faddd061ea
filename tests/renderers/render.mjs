// Markdown to HTML as JupyterLab makes it for an output that is trusted: a JSON string a line in, one out.
import { register } from 'node:module';
import { createInterface } from 'node:readline';

register('./hooks.mjs', import.meta.url);
globalThis.navigator ??= {};
// Highlighting puts the code into an element as text and takes the element's HTML.
const escaped = text => text.replace(/[&<>]/g, c => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[c]);
globalThis.document = { createElement: () => ({ innerHTML: '', remove() {} }) };
const languages = {
  findBest: name => name,
  highlight: async (text, language, element) => { element.innerHTML = escaped(text); }
};

const { createMarkdownParser } = await import('@jupyterlab/markedparser-extension/lib/index.js');
const { removeMath, replaceMath } = await import('@jupyterlab/rendermime/lib/latex.js');
const parser = createMarkdownParser(languages, {});

for await (const line of createInterface({ input: process.stdin })) {
  const { text, math } = removeMath(JSON.parse(line));
  process.stdout.write(JSON.stringify(replaceMath(await parser.render(text), math)) + '\n');
}
