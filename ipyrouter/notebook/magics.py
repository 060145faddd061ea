"""The magics. Imported by `%load_ext`, so it imports nothing heavy: all else comes with the first use."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from ipyrouter.notebook import questions

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ipyrouter.notebook.display import Display
    from ipyrouter.notebook.options import Parsed
    from ipyrouter.router import Router
    from ipyrouter.types import Answer

_ANSWER = "ipyrouter.types.Answer"
_EXAMPLES = (
    "%%route",
    "What is the difference between a list and a tuple?",
    "",
    '%%route -t power -s "You are a statistician." -o review',
    "Review this analysis: {{notes}}",
    "",
    "answer = %route Translate this to French: good morning",
    "%route -n Draw up a migration plan from pandas 1 to pandas 3",
)


@magics_class
class RouterMagics(Magics):
    """`%%route`, `%route` and `%router`."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._shown: str | None = None  # the answer that this cell has shown already

    @no_var_expand
    @line_cell_magic
    def route(self, line: str, cell: str | None = None) -> Answer | None:
        """Send a prompt to the cheapest model that can answer it.

        `%%route [options]` takes the cell below as the prompt, verbatim, but for {{name}}, which inserts a variable.
        `%route [options] PROMPT` takes the rest of the line. The Answer is returned, so that `_` holds it.
        `%%route --help` lists the options.
        """
        from ipyrouter.notebook import options, variables

        parsed = options.parse(line, options.ROUTE)
        if parsed.help:
            print(
                options.help_text(
                    "%%route [options], the prompt below    %route [options] PROMPT", options.ROUTE, _EXAMPLES
                )
            )
            return None
        prompt = _prompt(parsed, cell)
        namespace: dict[str, Any] = self.shell.user_ns  # type: ignore[union-attr]
        asked = {
            "system": parsed.system,
            "tier": parsed.tier,
            "model": parsed.model,
            "max_output_tokens": parsed.max_tokens,
            "temperature": parsed.temperature,
            "cache": "off" if parsed.no_cache else "refresh" if parsed.refresh else "use",
            "escalate": False if parsed.no_escalate else None,
            "yes": bool(parsed.yes),
        }
        if not parsed.raw:
            prompt = variables.insert(prompt, namespace)
            asked["system"] = variables.insert(parsed.system, namespace) if parsed.system else None
        router = self._router()
        if parsed.dry_run:
            self._preview(router, prompt, asked)
            return None
        answer = self._ask(router, prompt, asked, quiet=bool(parsed.quiet))
        if parsed.out:
            self.shell.push({parsed.out: answer})  # type: ignore[union-attr]
        if cell is not None and not hasattr(self.shell, "kernel"):
            # A terminal prints "Out[n]:" for any value, even one that is shown already; so set _ and Out[n] alone.
            self.shell.displayhook.update_user_ns(answer)  # type: ignore[union-attr]
            return None
        return answer

    @no_var_expand
    @line_magic
    def router(self, line: str) -> Any:
        """Costs and state of the router: `%router` lists the subcommands, each takes --help."""
        from ipyrouter.notebook import commands

        return commands.run(self._router, line, self.shell.user_ns)  # type: ignore[union-attr]

    def _router(self) -> Router:
        import ipyrouter

        router = ipyrouter.default_router()
        name = self.shell.user_ns.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")  # type: ignore[union-attr]
        router.notebook = PurePath(str(name)).name if name else None
        return router

    def _ask(self, router: Router, prompt: str, asked: dict[str, Any], *, quiet: bool) -> Answer:
        from ipyrouter.errors import Interrupted, RouteError

        display = self._display(router, quiet=quiet)
        try:
            answer = router.route(prompt, **asked, on_delta=display.delta)
        except Interrupted as stopped:
            display.finish(stopped.answer)
            raise
        except RouteError as error:
            display.fail(len(error.attempts))
            raise
        except BaseException:
            display.fail(0)
            raise
        display.finish(answer)
        self._shown = answer.id
        return answer

    def _display(self, router: Router, *, quiet: bool) -> Display:
        from ipyrouter.notebook import display

        stream = router.config.display_stream
        if quiet:
            return display.Quiet()
        if hasattr(self.shell, "kernel"):
            return display.NotebookDisplay(router.config.display_format, stream=stream)
        return display.TerminalDisplay(stream=stream)

    def _preview(self, router: Router, prompt: str, asked: dict[str, Any]) -> None:
        from IPython.display import display

        from ipyrouter.notebook import render

        rows = render.preview_rows(router.preview(prompt, **asked))
        bundle = render.table_bundle("Dry run: nothing was sent", rows)
        if hasattr(self.shell, "kernel"):
            display(bundle, raw=True)  # type: ignore[no-untyped-call]
        else:
            print(bundle["text/plain"])

    # --- showing an Answer ---

    def show(self, answer: Answer) -> bool | None:
        """Show an Answer that is a cell's value, unless this very cell has shown it while it arrived."""
        if self._shown == answer.id:
            return None
        from ipyrouter.notebook import display

        fmt = "markdown"
        if hasattr(self.shell, "kernel"):
            display.NotebookDisplay(fmt, stream=False).finish(answer)
        else:
            display.TerminalDisplay(stream=False).finish(answer)
        return None

    def forget_shown(self, *_: Any) -> None:
        """Note that the cell is over: from now on its answer is shown again when asked for."""
        self._shown = None


def _prompt(parsed: Parsed, cell: str | None) -> str:
    from ipyrouter.errors import UsageError

    if cell is None:
        if not parsed.rest:
            raise UsageError(
                "There is no prompt.", "Write %route PROMPT, or %%route with the prompt on the lines below."
            )
        return parsed.rest
    if parsed.rest:
        raise UsageError(
            f"{parsed.rest[:60]!r} stands on the %%route line, where only options go.", "Move it to the lines below."
        )
    return cell.removesuffix("\n")


_loaded: dict[int, RouterMagics] = {}  # by the shell's id: what unload takes away again


def load(shell: InteractiveShell) -> None:
    """Register magics, formatter and hook."""
    magics = RouterMagics(shell)
    _loaded[id(shell)] = magics
    shell.register_magics(magics)
    module, _, name = _ANSWER.rpartition(".")
    shell.display_formatter.ipython_display_formatter.for_type_by_name(module, name, magics.show)  # type: ignore[union-attr]
    shell.events.register("post_run_cell", magics.forget_shown)
    questions.install(shell)


def unload(shell: InteractiveShell) -> None:
    """Take away what load registered, and stop the embedded server."""
    import ipyrouter

    magics = _loaded.pop(id(shell), None)
    if magics is None:
        return
    registered = shell.magics_manager.magics
    for kind, names in (("line", ("route", "router")), ("cell", ("route",))):
        for name in names:
            registered[kind].pop(name, None)
    shell.display_formatter.ipython_display_formatter.pop(_ANSWER, None)  # type: ignore[union-attr]
    shell.events.unregister("post_run_cell", magics.forget_shown)
    questions.remove(shell)
    ipyrouter.use_router(None)
