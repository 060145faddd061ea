/** What can be done with a cell or an answer. Each writes or runs what a user would type: `%%route …`. */

import { Clipboard, Dialog, Notification, showDialog } from '@jupyterlab/apputils';
import { CodeCell, type ICellModel } from '@jupyterlab/cells';
import { NotebookActions, type NotebookPanel } from '@jupyterlab/notebook';
import type { IOutputModel } from '@jupyterlab/rendermime';

import { linkOf } from './kernel';
import { runHidden } from './panel';

const HEAD = /^((?:\s*(?:#.*)?\n)*)%%route(?=\s|$)([^\n]*)/; // comments, and the magic's options
const CHOICE = /("(?:\\.|[^"\\])*"|'[^']*')|\s(?:-t|--tier|-m|--model)(?:=|\s+)?(?:"[^"]*"|'[^']*'|\S+)/g;
const EXPLAIN = 'Explain this error, and how to fix it.';

/** What the metadata of an answer's output say. */
export interface IAnswer {
  id: string;
  tier: 'fast' | 'mid' | 'power';
}

/** The tier above each. */
export const ABOVE = { fast: 'mid', mid: 'power', power: null } as const;

/** Returns what is known of the answer that an output shows; null for other outputs. */
export function answerOf(output: IOutputModel): IAnswer | null {
  const metadata = output.metadata['ipyrouter'] as Partial<IAnswer> | undefined;
  return metadata?.id && metadata.tier && metadata.tier in ABOVE ? (metadata as IAnswer) : null;
}

/** Returns the last answer of a cell, with its place among the outputs. */
export function lastAnswer(cell: CodeCell): [IAnswer, number] | null {
  const { model } = cell.outputArea;
  for (let index = model.length - 1; index >= 0; index--) {
    const answer = answerOf(model.get(index));
    if (answer) {
      return [answer, index];
    }
  }
  return null;
}

/** Tells whether a cell begins with `%%route`. */
export function isPrompt(model: ICellModel): boolean {
  return HEAD.test(model.sharedModel.getSource());
}

/** Returns a prompt's source with an option in front of its others; a tier takes the place of tier and model. */
function withOption(source: string, option: string): string {
  return source.replace(HEAD, (_, comments: string, options: string) => {
    const others = option.startsWith('-t') ? options.replace(CHOICE, (_, quoted?: string) => quoted ?? '') : options;
    return `${comments}%%route ${option}${others}`;
  });
}

function insertBelow(panel: NotebookPanel, cell: CodeCell | null, source: string): void {
  const notebook = panel.content;
  const place = cell ? notebook.widgets.indexOf(cell) : notebook.activeCellIndex;
  notebook.model?.sharedModel.insertCell(place + 1, {
    cell_type: 'code',
    source,
    metadata: { trusted: true }
  });
  notebook.deselectAll();
  notebook.activeCellIndex = place + 1;
}

async function run(panel: NotebookPanel): Promise<void> {
  await NotebookActions.run(panel.content, panel.sessionContext);
}

/** Asks what is selected, in a cell below. */
export async function routeSelection(panel: NotebookPanel, text: string): Promise<void> {
  // Braces in code that is selected are no variables to insert.
  insertBelow(panel, null, `%%route${text.includes('{{') ? ' --raw' : ''}\n${text}`);
  await run(panel);
}

/** Puts a prompt below that sends a cell along, for the user to finish. */
export async function askAboutCell(panel: NotebookPanel, cell: CodeCell): Promise<void> {
  const number = cell.model.executionCount;
  const source = cell.model.sharedModel.getSource().trimEnd();
  const longest = Math.max(2, ...(source.match(/`+/g) ?? []).map(ticks => ticks.length));
  const fence = '`'.repeat(longest + 1);
  insertBelow(
    panel,
    cell,
    number === null ? `%%route --raw\n\n\n${fence}python\n${source}\n${fence}` : `%%route --cells ${number}\n`
  );
  const prompt = panel.content.activeCell;
  await prompt?.ready; // its editor comes a moment later
  panel.content.mode = 'edit';
  prompt?.editor?.setCursorPosition({ line: 1, column: 0 });
  prompt?.editor?.focus();
}

/** Asks what the last error means, below the cell that has failed. */
export async function explainError(panel: NotebookPanel, cell: CodeCell | null): Promise<void> {
  insertBelow(panel, cell, `%%route --error\n${EXPLAIN}`);
  await run(panel);
}

/** Sends a prompt to the next tier up; undone as any change of a cell, and the first answer stays in the log. */
export async function askHigher(panel: NotebookPanel, cell: CodeCell): Promise<void> {
  const tier = ABOVE[lastAnswer(cell)?.[0].tier ?? 'power'];
  if (tier) {
    const { sharedModel } = cell.model;
    sharedModel.setSource(withOption(sharedModel.getSource(), `-t ${tier}`));
    panel.content.deselectAll();
    panel.content.activeCellIndex = panel.content.widgets.indexOf(cell);
    await run(panel);
  }
}

/** Shows what would be sent, to whom and for how much; the cell stays as it is. */
export async function dryRun(panel: NotebookPanel, cell: CodeCell): Promise<void> {
  const source = withOption(cell.model.sharedModel.getSource(), '-n');
  const body = runHidden(panel, source, 'ipyrouter-dry-run');
  body.addClass('ipyrouter-dry-run');
  await showDialog({ title: 'Dry run', body, buttons: [Dialog.okButton({ label: 'Close' })] });
}

/** Marks an answer as good or bad, as `%router good` does. */
export async function judge(panel: NotebookPanel, answer: IAnswer, verdict: 'good' | 'bad'): Promise<void> {
  const words = await linkOf(panel).ask({ ask: 'feedback', id: answer.id, verdict });
  Notification.success(String(words), { autoClose: 3000 });
}

/** Puts an answer's code into a cell below, and does not run it. */
export async function insertCode(panel: NotebookPanel, cell: CodeCell): Promise<void> {
  const [answer, index] = lastAnswer(cell) ?? [null, 0];
  if (answer) {
    const code = await textOf(panel, answer, 'code', () => {
      const blocks = [...(cell.outputArea.widgets[index]?.node.querySelectorAll('pre code') ?? [])];
      const python = blocks.filter(block => block.matches('[class*="language-py"]'));
      return (python.length ? python : blocks.slice(0, 1)).map(block => (block.textContent ?? '').trim()).join('\n\n');
    });
    if (!code) {
      throw new Error('The answer holds no code.');
    }
    insertBelow(panel, cell, code);
  }
}

/** Copies an answer's text, without the badge. */
export async function copy(panel: NotebookPanel, answer: IAnswer, output: IOutputModel): Promise<void> {
  const text = await textOf(panel, answer, 'text', () => {
    const plain = output.data['text/plain'];
    return (Array.isArray(plain) ? plain.join('') : String(plain ?? '')).replace(/^[^\n]*\n/, '');
  });
  Clipboard.copyToSystem(text);
}

/** Returns what the kernel has of an answer, or, where it is another kernel, what the notebook shows. */
async function textOf(
  panel: NotebookPanel,
  { id }: IAnswer,
  ask: 'text' | 'code',
  fallback: () => string
): Promise<string> {
  try {
    return String(await linkOf(panel).ask({ ask, id }));
  } catch (error) {
    const text = fallback();
    if (!text) {
      throw error;
    }
    return text;
  }
}

/** Runs an action and says what goes wrong. */
export function attempt(action: Promise<void> | void): void {
  Promise.resolve(action).catch((error: Error) => {
    Notification.error(error.message, { autoClose: 8000 });
  });
}
