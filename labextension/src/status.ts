/** What today's calls have cost and what the budget leaves: in the status bar, in Notebook 7 beside the menus. */

import { ILabShell, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { INotebookTracker } from '@jupyterlab/notebook';
import { IStatusBar } from '@jupyterlab/statusbar';
import { Signal } from '@lumino/signaling';
import { Widget } from '@lumino/widgets';

import { type IState, linkOf } from './kernel';
import { OPEN_PANEL } from './panel';

function words({ spent, left }: IState): string {
  if (!spent) {
    return 'ipyrouter: see why';
  }
  return left ? `${spent} today · ${left} left` : `${spent} today`;
}

class Spending extends Widget {
  private _button = document.createElement('button');

  constructor(
    private _tracker: INotebookTracker,
    open: () => void
  ) {
    super();
    this.id = 'ipyrouter-spending';
    this.addClass('ipyrouter-spending');
    this._button.type = 'button';
    this._button.addEventListener('click', open);
    this.node.append(this._button);
    _tracker.widgetAdded.connect((_, panel) => linkOf(panel).changed.connect(this.refresh, this));
    _tracker.currentChanged.connect(this.refresh, this);
    this.refresh();
  }

  readonly activeChanged = new Signal<this, void>(this);

  /** Whether the notebook in front has a kernel with ipyrouter. */
  get isActive(): boolean {
    return this._state !== null;
  }

  private get _state(): IState | null {
    const panel = this._tracker.currentWidget;
    return panel && linkOf(panel).state;
  }

  refresh(): void {
    const state = this._state;
    if (state) {
      this._button.textContent = words(state);
      this._button.title = `${state.details}\n\nClick to open the panel.`;
    }
    this.setHidden(!state);
    this.activeChanged.emit();
  }
}

export const statusPlugin: JupyterFrontEndPlugin<void> = {
  id: 'ipyrouter:status',
  description: 'Shows what today has cost.',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [IStatusBar, ILabShell],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker,
    statusBar: IStatusBar | null,
    labShell: ILabShell | null
  ) => {
    const item = new Spending(tracker, () => void app.commands.execute(OPEN_PANEL));
    if (labShell && statusBar) {
      statusBar.registerStatusItem('ipyrouter:spending', {
        item,
        align: 'left',
        rank: 100,
        priority: 1, // JupyterLab hides what has none in a narrow window
        isActive: () => item.isActive,
        activeStateChanged: item.activeChanged
      });
    } else {
      app.shell.add(item, 'menu', { rank: 500 });
    }
  }
};
