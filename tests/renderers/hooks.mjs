// Lets Node load JupyterLab's modules, which are written for a bundler, and stands in for those that are an application's.
const STANDS_IN = `
  export const IEditorLanguageRegistry = null, IMermaidMarkdown = null, IMarkdownParser = null;
  export class LruCache extends Map {}
  export {removeMath, replaceMath} from '@jupyterlab/rendermime/lib/latex.js';`;
const OURS = 'data:text/javascript,stands-in';

export async function resolve(specifier, context, next) {
  if (/^@jupyterlab\/[a-z]+$/.test(specifier)) return { url: OURS, shortCircuit: true };
  const from = context.parentURL === OURS ? { ...context, parentURL: import.meta.url } : context;
  return next(specifier, from);
}

export async function load(url, context, next) {
  if (url === OURS) return { format: 'module', source: STANDS_IN, shortCircuit: true };
  return next(url, url.includes('/@jupyterlab/') ? { ...context, format: 'module' } : context);
}
