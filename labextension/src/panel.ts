/** `%router panel` in a tab of its own, or in Notebook 7 in the side bar: the kernel's own display, run out of sight. */

import { ILabShell, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, MainAreaWidget } from '@jupyterlab/apputils';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';
import { OutputAreaModel, SimplifiedOutputArea } from '@jupyterlab/outputarea';

import { linkOf } from './kernel';

export const OPEN_PANEL = 'ipyrouter:open-panel';
const SPLIT = 800; // pixels of a notebook that can be halved

/** Returns an output area with what a line shows; the cells' numbers, `_` and `Out` stay as they are. */
export function runHidden(panel: NotebookPanel, code: string, cellId: string): SimplifiedOutputArea {
  const area = new SimplifiedOutputArea({
    model: new OutputAreaModel({ trusted: true }),
    rendermime: panel.content.rendermime
  });
  const kernel = panel.sessionContext.session?.kernel;
  if (kernel) {
    area.future = kernel.requestExecute({ code, store_history: false, stop_on_error: false }, false, { cellId });
  }
  return area;
}

export const panelPlugin: JupyterFrontEndPlugin<void> = {
  id: 'ipyrouter:panel',
  description: 'Shows costs and log beside the notebook.',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ILabShell, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker,
    labShell: ILabShell | null,
    palette: ICommandPalette | null
  ) => {
    const open = new Map<NotebookPanel, MainAreaWidget>();

    const show = (notebook: NotebookPanel): void => {
      open.get(notebook)?.dispose(); // its widgets may be those of a kernel that has ended
      const content = runHidden(notebook, '%router panel', 'ipyrouter-panel');
      content.addClass('ipyrouter-panel');
      const widget = new MainAreaWidget({ content });
      widget.id = `ipyrouter-panel-${notebook.id}`;
      widget.title.label = 'Costs';
      widget.title.caption = `What ipyrouter has spent · ${notebook.title.label}`;
      widget.title.closable = true;
      open.set(notebook, widget);
      const close = (): void => widget.dispose();
      notebook.disposed.connect(close);
      widget.disposed.connect(() => {
        notebook.disposed.disconnect(close);
        if (open.get(notebook) === widget) {
          open.delete(notebook);
        }
      });
      if (labShell) {
        const mode = notebook.node.clientWidth >= SPLIT ? 'split-right' : 'tab-after';
        app.shell.add(widget, 'main', { mode, ref: notebook.id });
      } else {
        app.shell.add(widget, 'right');
      }
      app.shell.activateById(widget.id);
    };

    app.commands.addCommand(OPEN_PANEL, {
      label: 'Show Costs',
      caption: 'What ipyrouter has spent, and its log',
      isEnabled: () => tracker.currentWidget !== null && linkOf(tracker.currentWidget).state !== null,
      execute: () => {
        if (tracker.currentWidget) {
          show(tracker.currentWidget);
        }
      }
    });
    palette?.addItem({ command: OPEN_PANEL, category: 'ipyrouter' });
    tracker.widgetAdded.connect((_, panel) =>
      linkOf(panel).changed.connect(() => app.commands.notifyCommandChanged(OPEN_PANEL))
    );
  }
};
