/** The commands of the palette and of the cells' context menu. */

import { type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { CodeCell } from '@jupyterlab/cells';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';

import * as actions from './actions';
import { linkOf } from './kernel';

/** A command over the notebook in front; `isEnabled` may rely on a kernel with ipyrouter, if `needsKernel`. */
interface ICommand {
  id: string;
  label: string;
  caption: string;
  needsKernel: boolean;
  inMenu?: boolean;
  isEnabled: (panel: NotebookPanel, cell: CodeCell | null) => boolean;
  execute: (panel: NotebookPanel, cell: CodeCell) => Promise<void> | void;
}

function selection(panel: NotebookPanel): string {
  const editor = panel.content.activeCell?.editor;
  if (!editor) {
    return '';
  }
  const { start, end } = editor.getSelection();
  const [first, last] = [editor.getOffsetAt(start), editor.getOffsetAt(end)];
  return editor.model.sharedModel.getSource().slice(Math.min(first, last), Math.max(first, last));
}

const hasAnswer = (_: NotebookPanel, cell: CodeCell | null): boolean =>
  cell !== null && actions.lastAnswer(cell) !== null;
const isPrompt = (_: NotebookPanel, cell: CodeCell | null): boolean => cell !== null && actions.isPrompt(cell.model);

function judging(verdict: 'good' | 'bad') {
  return async (panel: NotebookPanel, cell: CodeCell): Promise<void> => {
    const last = actions.lastAnswer(cell);
    if (last) {
      await actions.judge(panel, last[0], verdict);
    }
  };
}

const COMMANDS: ICommand[] = [
  {
    id: 'route-selection',
    label: 'Route Selection',
    caption: 'Ask the text that is selected, in a new cell below',
    needsKernel: true,
    inMenu: true,
    isEnabled: panel => selection(panel).trim() !== '',
    execute: panel => actions.routeSelection(panel, selection(panel))
  },
  {
    id: 'ask-about-cell',
    label: 'Ask About This Cell',
    caption: 'Begin a prompt below that sends this cell along',
    needsKernel: true,
    inMenu: true,
    isEnabled: (_, cell) => cell !== null,
    execute: actions.askAboutCell
  },
  {
    id: 'explain-error',
    label: 'Explain the Last Error',
    caption: 'Ask what the last error means and how to fix it',
    needsKernel: true,
    isEnabled: panel => typeof linkOf(panel).state?.failed === 'string',
    execute: panel => actions.explainError(panel, failedCell(panel))
  },
  {
    id: 'insert-code',
    label: 'Insert Code from the Answer Below',
    caption: 'Put the code of this cell’s answer into a new cell, without running it',
    needsKernel: false,
    isEnabled: hasAnswer,
    execute: actions.insertCode
  },
  {
    id: 'ask-higher',
    label: 'Ask Again at a Higher Tier',
    caption: 'Run this prompt again with the next tier up',
    needsKernel: true,
    isEnabled: (panel, cell) =>
      isPrompt(panel, cell) && actions.ABOVE[(cell && actions.lastAnswer(cell)?.[0].tier) ?? 'power'] !== null,
    execute: actions.askHigher
  },
  {
    id: 'good',
    label: 'Good Answer',
    caption: 'The router learns from it',
    needsKernel: true,
    isEnabled: hasAnswer,
    execute: judging('good')
  },
  {
    id: 'bad',
    label: 'Bad Answer',
    caption: 'The router learns from it',
    needsKernel: true,
    isEnabled: hasAnswer,
    execute: judging('bad')
  },
  {
    id: 'dry-run',
    label: 'Dry Run',
    caption: 'Show to whom this prompt would go, and for how much; nothing is sent',
    needsKernel: true,
    inMenu: true,
    isEnabled: isPrompt,
    execute: actions.dryRun
  }
];

function failedCell(panel: NotebookPanel): CodeCell | null {
  const id = linkOf(panel).state?.failed;
  const cell = panel.content.widgets.find(({ model }) => model.id === id);
  return cell instanceof CodeCell ? cell : null;
}

export const commandsPlugin: JupyterFrontEndPlugin<void> = {
  id: 'ipyrouter:commands',
  description: 'Commands about prompts, answers and errors.',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ICommandPalette],
  activate: (app: JupyterFrontEnd, tracker: INotebookTracker, palette: ICommandPalette | null) => {
    const current = (): [NotebookPanel, CodeCell | null] | null => {
      const panel = tracker.currentWidget;
      const cell = panel?.content.activeCell;
      return panel && [panel, cell instanceof CodeCell ? cell : null];
    };
    for (const [rank, one] of COMMANDS.entries()) {
      const command = `ipyrouter:${one.id}`;
      const isEnabled = (): boolean => {
        const place = current();
        return place !== null && (!one.needsKernel || linkOf(place[0]).state !== null) && one.isEnabled(...place);
      };
      app.commands.addCommand(command, {
        label: one.label,
        caption: one.caption,
        isEnabled,
        execute: () => {
          const place = current();
          if (place && isEnabled()) {
            // Those that need a cell are enabled with one alone.
            actions.attempt(one.execute(place[0], place[1] as CodeCell));
          }
        }
      });
      palette?.addItem({ command, category: 'ipyrouter' });
      if (one.inMenu) {
        app.contextMenu.addItem({
          command,
          selector: '.jp-Notebook .jp-CodeCell',
          rank: 20 + rank / 100
        });
      }
    }
    const notify = (): void => app.commands.notifyCommandChanged();
    tracker.activeCellChanged.connect(notify);
    tracker.selectionChanged.connect(notify);
    tracker.widgetAdded.connect((_, panel) => linkOf(panel).changed.connect(notify));
  }
};
