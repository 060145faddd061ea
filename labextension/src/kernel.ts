/** The link to a notebook's kernel: what `ipyrouter.notebook.front_end` answers, where that is loaded. */

import type { ISessionContext } from '@jupyterlab/apputils';
import type { NotebookPanel } from '@jupyterlab/notebook';
import type { Kernel, KernelMessage } from '@jupyterlab/services';
import { UUID } from '@lumino/coreutils';
import { type ISignal, Signal } from '@lumino/signaling';

const TARGET = 'ipyrouter';
const MAY_LOAD = /ipyrouter|%route/; // code after which it may be worth looking again
const TIMEOUT = 10_000; // milliseconds for a reply: a kernel that is busy may answer late, or never

/** What the kernel says of itself, in words that are ready to be shown. */
export interface IState {
  spent: string;
  left: string | null;
  details: string;
  failed: string | null;
}

interface IReply {
  number?: string;
  result?: unknown;
  error?: string;
  state?: IState;
}

type Question =
  { ask: 'state' } | { ask: 'text' | 'code'; id: string } | { ask: 'feedback'; id: string; verdict: 'good' | 'bad' };

/** Follows the kernel of a session through restarts and changes. It runs no code there. */
export class Link {
  private _changed = new Signal<this, void>(this);
  private _comm: Kernel.IComm | null = null;
  private _look = false; // look for the comm when the kernel is idle
  private _state: IState | null = null;
  private _waiting = new Map<string, (reply: IReply) => void>();

  constructor(private _context: ISessionContext) {
    _context.kernelChanged.connect(() => this._reset(true));
    _context.statusChanged.connect((_, status) => this._onStatus(status));
    _context.iopubMessage.connect((_, message) => this._onMessage(message));
    this._reset(true);
  }

  /** Emitted when the state is another one. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** What is known; null where ipyrouter is not loaded. */
  get state(): IState | null {
    return this._state;
  }

  /** Asks the kernel; rejects with one line that can be shown. */
  async ask(question: Question): Promise<unknown> {
    const comm = this._comm;
    if (!comm) {
      throw new Error('ipyrouter is not loaded: run %load_ext ipyrouter.');
    }
    const number = UUID.uuid4(); // other tabs get the reply, too
    let timer = 0;
    try {
      const reply = await new Promise<IReply>(resolve => {
        this._waiting.set(number, resolve);
        timer = window.setTimeout(() => resolve({ error: 'The kernel is busy. Try again later.' }), TIMEOUT);
        comm.send({ ...question, number });
      });
      if (reply.error !== undefined) {
        throw new Error(reply.error);
      }
      return reply.result;
    } finally {
      window.clearTimeout(timer);
      this._waiting.delete(number);
    }
  }

  private _reset(look: boolean): void {
    this._comm = null;
    this._look = look;
    for (const resolve of this._waiting.values()) {
      resolve({ error: 'The kernel has ended. Run the cell again.' });
    }
    this._setState(null);
    if (look && this._context.session?.kernel?.status === 'idle') {
      void this._find();
    }
  }

  private _setState(state: IState | null): void {
    if (state !== this._state) {
      this._state = state;
      this._changed.emit();
    }
  }

  private _onStatus(status: Kernel.Status): void {
    if (status === 'restarting' || status === 'autorestarting') {
      this._reset(true);
    } else if (status === 'dead' || status === 'terminating') {
      this._reset(false);
    } else if (status === 'idle' && this._look) {
      void this._find();
    }
  }

  private _onMessage(message: KernelMessage.IMessage): void {
    if (message.header.msg_type === 'execute_input') {
      const { code } = message.content as { code: string };
      this._look ||= MAY_LOAD.test(code);
    }
  }

  /** Looks for the comm that `%load_ext ipyrouter` has opened. */
  private async _find(): Promise<void> {
    const kernel = this._context.session?.kernel;
    this._look = false;
    if (!kernel || this._comm) {
      return;
    }
    try {
      const { content } = await kernel.requestCommInfo({ target_name: TARGET });
      const id = content.status === 'ok' ? Object.keys(content.comms)[0] : '';
      if (id && !this._comm && !kernel.hasComm(id)) {
        this._connect(kernel.createComm(TARGET, id));
      }
    } catch {
      // The kernel ended meanwhile; the next one is looked at.
    }
  }

  private _connect(comm: Kernel.IComm): void {
    this._comm = comm;
    comm.onMsg = ({ content }) => {
      const reply = content.data as unknown as IReply;
      if (reply.state) {
        this._setState(reply.state);
      } else if (reply.number !== undefined) {
        this._waiting.get(reply.number)?.(reply);
      }
    };
    comm.onClose = () => this._reset(false);
    const setState = (state: IState): void => {
      if (this._comm === comm) {
        this._setState(state); // of this kernel, not of one that has ended meanwhile
      }
    };
    this.ask({ ask: 'state' }).then(
      state => setState(state as IState),
      (error: Error) => setState({ spent: '', left: null, details: error.message, failed: null })
    );
  }
}

const links = new WeakMap<ISessionContext, Link>();

/** Returns the one link of a notebook's session. */
export function linkOf({ sessionContext }: NotebookPanel): Link {
  const link = links.get(sessionContext) ?? new Link(sessionContext);
  links.set(sessionContext, link);
  return link;
}
