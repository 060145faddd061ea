// A stand-in for VS Code: an output's Markdown to HTML with markdown-it as its notebooks have it, KaTeX for formulas, and
// highlight.js where VS Code asks its editor for the colours. A JSON string a line in, one out.
import { createInterface } from 'node:readline';
import katex from '@vscode/markdown-it-katex';
import highlighter from 'highlight.js';
import MarkdownIt from 'markdown-it';

const highlight = (code, language) =>
  highlighter.getLanguage(language) ? highlighter.highlight(code, { language }).value : '';
const markdown = new MarkdownIt({ html: true, linkify: true, highlight }).use(katex.default);
markdown.linkify.set({ fuzzyLink: false });

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(markdown.render(JSON.parse(line))) + '\n');
}
