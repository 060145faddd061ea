/** `%%route` cells are prompts: edited as Markdown, with the magic's line, options and `{{name}}` marked. */

import { type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { EditorExtensionRegistry, IEditorExtensionRegistry, IEditorLanguageRegistry } from '@jupyterlab/codemirror';
import { Language, LanguageSupport } from '@codemirror/language';
import { Compartment, EditorState, type Extension, Prec, type Range, type Text } from '@codemirror/state';
import { Decoration, type DecorationSet, EditorView, ViewPlugin, type ViewUpdate } from '@codemirror/view';
import type { MarkdownParser } from '@lezer/markdown';
import type { ICellModel } from '@jupyterlab/cells';

const MAGIC = /^%%route(?=\s|$)/;
const BEFORE_MAGIC = /^\s*(#.*)?$/; // the magic may follow comments
const OPTION = /(?<=\s)--?[A-Za-z][\w-]*/g;
const RAW = /\s--raw(?=\s|$)/;
const INSERTION = /\{\{(?!\{)\s*[\p{L}_][\p{L}\p{N}_]*\s*\}\}/gu;
const OPENING = /\{\{\s*$/;

/** Returns the number of the line with `%%route`, from 1; 0 if the document is not a prompt. */
export function magicLine(doc: Text): number {
  for (let number = 1; number <= doc.lines; number++) {
    const { text } = doc.line(number);
    if (MAGIC.test(text)) {
      return number;
    }
    if (!BEFORE_MAGIC.test(text)) {
      return 0;
    }
  }
  return 0;
}

/** Returns JupyterLab's Markdown, whose first block is all down to the magic's line, whatever follows it. */
function promptLanguage(markdown: LanguageSupport): LanguageSupport {
  const { data, parser } = markdown.language;
  const withHead = (parser as MarkdownParser).configure({
    defineNodes: [{ name: 'RouteHead', block: true }],
    parseBlock: [
      {
        name: 'RouteHead',
        before: 'LinkReference',
        parse: (context, line) => {
          if (context.lineStart !== 0) {
            return false;
          }
          while (!MAGIC.test(line.text)) {
            if (!BEFORE_MAGIC.test(line.text) || !context.nextLine()) {
              return false;
            }
          }
          const end = context.lineStart + line.text.length;
          context.addElement(context.elt('RouteHead', 0, end));
          context.nextLine();
          return true;
        }
      }
    ]
  });
  return new LanguageSupport(new Language(data, withHead, [], 'ipyrouter'), markdown.support);
}

const COMMENT = Decoration.mark({ class: 'ipyrouter-comment' });
const NAME = Decoration.mark({ class: 'ipyrouter-magic' });
const SWITCH = Decoration.mark({ class: 'ipyrouter-option' });
const VARIABLE = Decoration.mark({ class: 'ipyrouter-insertion' });

function marks({ state: { doc }, visibleRanges }: EditorView): DecorationSet {
  const magic = magicLine(doc);
  if (!magic) {
    return Decoration.none;
  }
  const ranges: Range<Decoration>[] = [];
  const inserts = !RAW.test(doc.line(magic).text);
  for (const { from, to } of visibleRanges) {
    const last = doc.lineAt(to).number;
    for (let number = doc.lineAt(from).number; number <= last; number++) {
      const line = doc.line(number);
      const mark = (decoration: Decoration, pattern: RegExp): void => {
        for (const match of line.text.matchAll(pattern)) {
          const start = line.from + match.index;
          ranges.push(decoration.range(start, start + match[0].length));
        }
      };
      if (number < magic) {
        mark(COMMENT, /#.*/g);
        continue;
      }
      if (number === magic) {
        mark(NAME, /^%%route/g);
        mark(SWITCH, OPTION);
      }
      if (inserts) {
        mark(VARIABLE, INSERTION);
      }
    }
  }
  return Decoration.set(ranges, true);
}

const marker = ViewPlugin.fromClass(
  class {
    decorations: DecorationSet;

    constructor(view: EditorView) {
      this.decorations = marks(view);
    }

    update(update: ViewUpdate): void {
      if (update.docChanged || update.viewportChanged) {
        this.decorations = marks(update.view);
      }
    }
  },
  { decorations: plugin => plugin.decorations }
);

/** Returns what makes an editor one for prompts as long as its text begins with `%%route`. */
function promptEditing(source: string, markdown: Promise<LanguageSupport | null>, complete: () => void): Extension {
  const asPrompt = new Compartment();
  const always = [
    marker,
    EditorView.lineWrapping,
    EditorView.contentAttributes.of({ spellcheck: 'true' }),
    EditorView.updateListener.of(update => {
      const { main } = update.state.selection;
      const line = update.state.doc.lineAt(main.head);
      const isInput = update.transactions.some(one => one.isUserEvent('input'));
      const before = line.text.slice(0, main.head - line.from);
      if (isInput && main.empty && OPENING.test(before)) {
        window.setTimeout(complete); // once JupyterLab's copy of the text has the braces, too
      }
    })
  ];
  let prompt: Extension = always;
  const loading = ViewPlugin.define(view => {
    void markdown.then(support => {
      if (support) {
        prompt = [Prec.highest(promptLanguage(support)), always];
        if (magicLine(view.state.doc)) {
          view.dispatch({ effects: asPrompt.reconfigure(prompt) });
        }
      }
    });
    return {};
  });
  const following = EditorState.transactionExtender.of(transaction => {
    const is = magicLine(transaction.newDoc) > 0;
    return is === magicLine(transaction.startState.doc) > 0
      ? null
      : { effects: asPrompt.reconfigure(is ? prompt : []) };
  });
  const state = EditorState.create({ doc: source });
  return [asPrompt.of(magicLine(state.doc) ? prompt : []), following, loading];
}

export const promptPlugin: JupyterFrontEndPlugin<void> = {
  id: 'ipyrouter:prompt',
  description: 'Edits %%route cells as Markdown.',
  autoStart: true,
  requires: [IEditorExtensionRegistry, IEditorLanguageRegistry],
  activate: (app: JupyterFrontEnd, extensions: IEditorExtensionRegistry, languages: IEditorLanguageRegistry) => {
    const markdown = languages.getLanguage('text/x-ipythongfm').then(language => language?.support ?? null);
    const command = 'completer:invoke-notebook';
    const complete = (): void => {
      if (app.commands.isEnabled(command)) {
        void app.commands.execute(command);
      }
    };
    extensions.addExtension({
      name: 'ipyrouter-prompt',
      factory: ({ model }) =>
        (model as Partial<ICellModel>).type === 'code'
          ? EditorExtensionRegistry.createImmutableExtension(
              promptEditing(model.sharedModel.getSource(), markdown, complete)
            )
          : null
    });
  }
};
