/** Buttons below each answer, and at the cell whose error was the last. */

import { type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { CodeCell } from '@jupyterlab/cells';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';
import type { IOutputModel } from '@jupyterlab/rendermime';
import { Panel, Widget } from '@lumino/widgets';

import * as actions from './actions';
import { linkOf } from './kernel';

class Buttons extends Widget {
  /** @param key - says what the buttons are for: other outputs get other ones. */
  constructor(
    readonly key: string,
    label: string,
    buttons: [string, string, () => Promise<void> | void][]
  ) {
    super();
    this.addClass('ipyrouter-buttons');
    this.node.setAttribute('role', 'group');
    this.node.setAttribute('aria-label', label);
    for (const [text, title, act] of buttons) {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = text;
      button.title = title;
      button.addEventListener('click', () => actions.attempt(act()));
      this.node.append(button);
    }
  }
}

/** What scrolls sideways (base.css), and takes the focus so that it scrolls with the keyboard in every browser. */
const CODE = ".jp-RenderedMarkdown:has(.tex2jax_ignore) pre:has(> [class*='language-']):not([tabindex])";

const FENCE = /^ *(```|~~~)/m;

function hasCode({ data }: IOutputModel): boolean {
  return ['text/markdown', 'text/plain'].some(type => FENCE.test([data[type] ?? ''].flat().join('')));
}

function answerButtons(panel: NotebookPanel, cell: CodeCell, output: IOutputModel, answer: actions.IAnswer): Buttons {
  const above = actions.ABOVE[answer.tier];
  const isLast = actions.lastAnswer(cell)?.[0].id === answer.id;
  const rows: [string, string, () => Promise<void> | void][] = [
    ['Copy', 'Copy the answer', () => actions.copy(panel, answer, output)]
  ];
  if (isLast && hasCode(output)) {
    rows.push(['Insert code', 'Put the code into a new cell below', () => actions.insertCode(panel, cell)]);
  }
  rows.push(
    ['Good', 'A good answer: the router learns from it', () => actions.judge(panel, answer, 'good')],
    ['Bad', 'A bad answer: the router learns from it', () => actions.judge(panel, answer, 'bad')]
  );
  if (above && isLast && actions.isPrompt(cell.model)) {
    rows.push([`Ask ${above}`, `Ask again at the tier ${above}`, () => actions.askHigher(panel, cell)]);
  }
  return new Buttons(`${answer.id} ${isLast}`, 'Answer', rows);
}

function errorButtons(panel: NotebookPanel, cell: CodeCell): Buttons {
  return new Buttons('error', 'Error', [
    ['Explain this error', 'Ask what it means and how to fix it', () => actions.explainError(panel, cell)]
  ]);
}

/** Makes the buttons of a cell those that belong to its outputs. */
function update(panel: NotebookPanel, cell: CodeCell): void {
  const { model, widgets } = cell.outputArea;
  const hasLastError = linkOf(panel).state?.failed === cell.model.id;
  for (let index = 0; index < model.length; index++) {
    const place = widgets[index];
    if (!(place instanceof Panel)) {
      continue;
    }
    const output = model.get(index);
    const answer = actions.answerOf(output);
    const isLastError = hasLastError && output.type === 'error';
    const next = answer ? answerButtons(panel, cell, output, answer) : isLastError ? errorButtons(panel, cell) : null;
    const current = place.widgets.find(widget => widget instanceof Buttons);
    if (current?.key === next?.key) {
      next?.dispose();
      continue;
    }
    current?.dispose();
    if (next) {
      place.addWidget(next);
    }
  }
}

/** Keeps the buttons of a notebook true. */
function follow(panel: NotebookPanel): void {
  const cells = new WeakSet<CodeCell>();
  let timer = 0;
  const updateAll = (): void => {
    timer = 0;
    if (!panel.isDisposed) {
      for (const cell of panel.content.widgets) {
        if (cell instanceof CodeCell) {
          watch(cell);
          update(panel, cell);
        }
      }
    }
  };
  const schedule = (): void => {
    timer ||= window.setTimeout(updateAll);
  };
  const watch = (cell: CodeCell): void => {
    if (!cells.has(cell)) {
      cells.add(cell);
      const { node } = cell.outputArea;
      const focusable = (): void => node.querySelectorAll<HTMLElement>(CODE).forEach(code => (code.tabIndex = 0));
      new MutationObserver(focusable).observe(node, { childList: true, subtree: true }); // Markdown is rendered later
      focusable();
      cell.outputArea.model.changed.connect(schedule);
      cell.outputArea.outputLengthChanged.connect(schedule);
    }
  };
  panel.content.modelContentChanged.connect(schedule);
  linkOf(panel).changed.connect(schedule);
  void panel.revealed.then(schedule);
}

export const answersPlugin: JupyterFrontEndPlugin<void> = {
  id: 'ipyrouter:answers',
  description: 'Puts buttons below answers and errors.',
  autoStart: true,
  requires: [INotebookTracker],
  activate: (_, tracker: INotebookTracker) => {
    tracker.widgetAdded.connect((_, panel) => follow(panel));
  }
};
