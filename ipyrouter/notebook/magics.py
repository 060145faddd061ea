"""The magics. Imported by `%load_ext`, so it imports nothing heavy: all else comes with the first use."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from ipyrouter.notebook import completion, input_transforms
from ipyrouter.notebook.outputs import Outputs
from ipyrouter.notebook.settings import IPyRouter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

    from ipyrouter.notebook.display import Display
    from ipyrouter.notebook.formats import Presentation
    from ipyrouter.notebook.front_end import FrontEnd
    from ipyrouter.notebook.options import RouteLine
    from ipyrouter.notebook.panel.panel import Panel
    from ipyrouter.notebook.prompt.chats import Chats
    from ipyrouter.notebook.prompt.pieces import Piece
    from ipyrouter.notebook.prompt.variables import Scope
    from ipyrouter.router import Router
    from ipyrouter.types import Answer, Prompt, Session

_ANSWER = "ipyrouter.types.Answer"


def _route_help() -> str:
    from ipyrouter.notebook import options

    return options.route_help()


@magics_class
class RouterMagics(Magics):
    """`%%route`, `%route` and `%router`."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._last_answer: str | None = None  # the answer that this cell has shown already
        self._cell: str | None = None  # the id of the cell that is running, where the front end tells it
        self._in_history = False  # whether the cell that runs is the last of the history
        self._run = 0  # how many cells have run
        self._warm = False  # whether the classifier has been read, or is being read
        self._failure: tuple[BaseException, str] | None = None  # the last error that is not ours, and its cell
        self._chats: Chats | None = None
        self._new_cells: dict[str, set[str]] = {}  # the codes of the cells that a cell has added, by its id
        self._own_router: Router | None = None
        self.settings = IPyRouter(parent=shell)
        self.matcher: Any = None  # what completion.install gave
        publisher = shell.display_pub
        self.outputs = Outputs(publisher) if hasattr(publisher, "register_hook") else None
        self.panels: dict[str, Panel] = {}  # by the cell that shows each
        self.unguard: Callable[[], None] = lambda: None  # what ends the guard of the cell that loads
        self._comm: Any = None  # where the JupyterLab extension asks
        self._front_end: FrontEnd | None = None  # once it has asked

    @no_var_expand
    @line_cell_magic
    def route(self, line: str, cell: str | None = None) -> Any:
        """Send a prompt to the cheapest model that can answer it. `%route --help` lists the options."""
        from ipyrouter.errors import UsageError
        from ipyrouter.notebook import formats, options
        from ipyrouter.notebook.prompt import variables
        from ipyrouter.notebook.prompt.chats import Turn

        args = options.parse(line, options.ROUTE, options.RouteLine)
        if args.help:
            print(options.route_help())
            return None
        scope = variables.scope(self.shell.user_ns)  # type: ignore[union-attr]
        if args.out in scope.local:
            raise UsageError(
                f"-o {args.out}: this is a variable of the function {scope.function}, which a magic cannot set.",
                f"Write {args.out} = %route …",
            )
        if args.map:
            return self._map(args, _prompt(args, cell), scope, bare=cell is None)
        if args.tier in ("each", "pilot") or args.pilot or args.budget or args.delivery != "live":
            raise UsageError(
                "-t each, -t pilot, --pilot, --budget and --delivery go with --map.", "Name the rows: --map NAME."
            )
        place = self.chats.place(name=args.chat, goes_on=args.continue_, cell=self._cell, run=self._run)
        typed, system, pieces = self._compose(args, cell, scope.variables)
        prompt = self._attached(typed, pieces)
        router = self._router()
        schema = variables.schema(args.schema, scope.variables) if args.schema else None
        if schema is not None and args.format in ("code", "html"):
            raise UsageError(f"--schema makes JSON, which -f {args.format} cannot show.", "Leave one of the two out.")
        fmt = args.format or ("json" if schema is not None else router.config.display_format)
        settings = {
            "system": formats.system_prompt(system, fmt) if schema is None else system,
            "history": place.history,
            "conversation": args.chat is not None,
            "tier": args.tier,
            "model": args.model,
            "max_output_tokens": args.max_tokens,
            "temperature": args.temperature,
            "cache": "off" if args.no_cache else "refresh" if args.refresh else "use",
            "escalate": False if args.no_escalate else None,
            "allow_large": args.yes,
            "effort": args.effort,
            "schema": schema,
            "json": fmt == "json" and schema is None,
            "show_thinking": args.show_thinking,
            "tags": args.tag,
            "previous_tier": self.chats.tier_before(place, prompt, self._cell),
        }
        if args.dry_run:
            self._preview(router, prompt, settings, pieces, typed)
            return None
        answer, result = self._ask(router, prompt, settings, fmt, quiet=args.quiet, bare=cell is None)
        if answer.text.strip():
            self.chats.keep(place, Turn(prompt, answer.text, self._cell, self._run, answer.classification.tier))
        return self._value_of(answer, result, args.out, as_value=cell is None or bool(scope.function))

    # What IPython shows for `%route?`, so that the options' help stands in their table alone, which %load_ext spares.
    route.getdoc = _route_help  # type: ignore[union-attr]

    @no_var_expand
    @line_magic(input_transforms.MISPLACED)  # type: ignore[arg-type]  # IPython's types know no name here
    def misplaced(self, line: str) -> None:
        """Fail: `%%route` stands below other code."""
        raise input_transforms.misplaced(line)

    @no_var_expand
    @line_magic
    def router(self, line: str) -> Any:
        """Costs and state of the router: `%router` lists the subcommands, each takes --help."""
        from ipyrouter.notebook import commands

        return commands.run(line, self._router, self.shell.user_ns, self.chats, self._show_panel)  # type: ignore[union-attr]

    @property
    def chats(self) -> Chats:
        """The conversations of this kernel."""
        if self._chats is None:
            from ipyrouter.notebook.prompt.chats import Chats

            self._chats = Chats()
        return self._chats

    def chat_names(self) -> list[str]:
        """Return the names of the conversations."""
        return self._chats.names() if self._chats else []

    def _map(self, args: RouteLine, prompt: str, scope: Scope, *, bare: bool) -> Any:
        """Ask the prompt of every row, and return the frame where it is used or shown."""
        from ipyrouter.notebook import columns

        router = self._router()
        result = columns.ask(args, prompt, scope.variables, router, self._session(router))
        shell: Any = self.shell
        if result is not None and args.out:
            shell.push({args.out: result})
            if not (bare or scope.function):  # the cell's value is not shown as well
                shell.displayhook.update_user_ns(result)
                return None
        return result

    def _compose(
        self, args: RouteLine, cell: str | None, namespace: Mapping[str, Any]
    ) -> tuple[str, str | None, list[Piece]]:
        """Return prompt and system prompt, variables inserted, and what is sent along below the prompt."""
        from ipyrouter.notebook.prompt import variables

        prompt, system = _prompt(args, cell), args.system
        if not args.raw:
            prompt = variables.insert(prompt, namespace)
            system = variables.insert(system, namespace) if system else None
        return prompt, system, self._pieces(args, namespace)

    def _pieces(self, args: RouteLine, namespace: Mapping[str, Any]) -> list[Piece]:
        """Return what is sent along below the prompt."""
        asks = (args.file, args.cells, args.above, args.error, args.rows, args.columns)
        if args.with_ is None and not any(asks):
            return []
        from ipyrouter.notebook.prompt import gather

        history = self.shell.history_manager  # type: ignore[union-attr]
        shown = self.outputs.cells if self.outputs else {}
        return gather.pieces(args, namespace, history, shown, self._failure, within=self._in_history)

    @staticmethod
    def _attached(typed: str, pieces: list[Piece]) -> str | Prompt:
        if not pieces:
            return typed
        from ipyrouter.notebook.prompt.pieces import attach

        return attach(typed, pieces)

    def _router(self) -> Router:
        import ipyrouter

        router = ipyrouter.default_router()
        if self._own_router is not router:  # settings that came before there was a router, or for another one
            if self.settings.chosen():  # with nothing chosen, what the user gave configure() stays
                self.settings.apply()
            self._own_router = router
        return router

    def _session(self, router: Router) -> Session:
        """Return the router's session with the name of this notebook, where the front end gives it."""
        name = self.shell.user_ns.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")  # type: ignore[union-attr]
        # Windows' rules read both kinds of paths, and a kernel on Linux may serve a notebook from Windows.
        return replace(router.session, notebook=PureWindowsPath(str(name)).name if name else None)

    def _ask(
        self, router: Router, prompt: str | Prompt, settings: dict[str, Any], fmt: str, *, quiet: bool, bare: bool
    ) -> tuple[Answer, Presentation]:
        """Ask and show; ``bare``: in a line, whose value IPython itself may show."""
        from ipyrouter.errors import Interrupted, RouteError, SchemaError
        from ipyrouter.notebook.formats import partial_body, present, with_thinking
        from ipyrouter.routing.requests import make_request

        request = make_request(prompt, **settings)  # what is wrong already needs no display
        settings = {**settings, "schema": request.schema}
        if settings["model"]:
            router.config.candidate(settings["model"])
        bodiless = bare and fmt == "json"  # the object is the line's value, and not shown here as well
        display = self._display(router, "none" if bodiless else fmt, quiet=quiet)
        try:
            answer = router.route(prompt, **settings, session=self._session(router), on_delta=display.delta)
        except Interrupted as stopped:
            display.finish(stopped.answer, partial_body(stopped.answer.text, fmt))
            raise
        except (RouteError, SchemaError) as error:
            display.fail(len(error.attempts))
            raise
        except BaseException:
            display.fail(0)
            raise
        result = self._once(present(answer, fmt, with_schema=request.schema is not None))
        if request.show_thinking:
            result = replace(result, body=with_thinking(result.body, answer))
        display.finish(answer, replace(result.body, text="") if bodiless and not result.error else result.body)
        self._last_answer = answer.id
        return answer, result

    def _once(self, result: Presentation) -> Presentation:
        """Return what was made of an answer without a new cell, where this cell has added the same one before."""
        if result.cell is None or self._cell is None:  # without cells, the code is typed ahead at the next prompt
            return result
        added = self._new_cells.setdefault(self._cell, set())
        if result.cell in added:
            note = "An earlier run of this cell has added the cell with this code."
            return replace(result, cell=None, body=replace(result.body, notes=(*result.body.notes, note)))
        added.add(result.cell)
        return result

    def _value_of(self, answer: Answer, result: Presentation, name: str | None, *, as_value: bool) -> Any:
        """Return the magic's value, with the variable and the new cell that it may bring.

        Args:
            answer: What was answered.
            result: The same in its format.
            name: The variable that gets it, if any.
            as_value: A line's value, or a function's, is used or shown by the code that reads it.

        Raises:
            UsageError: Where the answer does not fit its format.
        """
        from ipyrouter.notebook import display

        shell: Any = self.shell
        if result.error:
            shell.displayhook.update_user_ns(answer)
            raise result.error
        if result.cell is not None:
            shell.set_next_input(result.cell, replace=False)
        if name:
            shell.push({name: result.value})
        unseen = hasattr(shell, "kernel") and not display.is_captured(shell)  # a value that is shown leaves no trace
        if not as_value and (result.value is not answer or not unseen):
            # What is shown already is not shown again as the cell's value: set _ and Out[n] alone.
            shell.displayhook.update_user_ns(result.value)
            return None
        return result.value

    def _display(self, router: Router, fmt: str, *, quiet: bool) -> Display:
        from ipyrouter.notebook import display

        if quiet:
            return display.Quiet()
        return display.choose(self.shell, fmt, stream=router.config.display_stream)  # type: ignore[arg-type]

    def _preview(
        self, router: Router, prompt: str | Prompt, settings: dict[str, Any], pieces: list[Piece], typed: str
    ) -> None:
        from IPython.display import display

        from ipyrouter.notebook import rendering

        turns = len(settings["history"]) // 2
        bundle = rendering.preview_bundle(router.preview(prompt, **settings), pieces, turns, settings["system"], typed)
        if hasattr(self.shell, "kernel"):
            display(bundle, raw=True)  # type: ignore[no-untyped-call]
        else:
            print(bundle["text/plain"])

    def _show_panel(self) -> None:
        from ipyrouter.notebook import display

        router = self._router()
        if display.client(self.shell) in ("terminal", "console"):  # type: ignore[arg-type]
            from ipyrouter.notebook.panel import figures
            from ipyrouter.store.base import LogFilter

            sums = figures.Sums(router.store, LogFilter())
            print(figures.as_text(figures.gather(router, sums, "all of the log")))
            return
        from ipyrouter.notebook.panel.panel import Panel

        if any(panel.router is not router for panel in self.panels.values()):
            self.close_panels()
        cell = self._cell or f"run {self._run}"  # run again, the cell shows its panel as it was
        if cell not in self.panels:
            self.panels[cell] = Panel(router)
        self.panels[cell].show()

    def close_panels(self) -> None:
        """Take the panels' controls away."""
        for panel in self.panels.values():
            panel.close()
        self.panels.clear()

    # --- showing an Answer ---

    def show(self, answer: Answer) -> bool | None:
        """Show an Answer that is a cell's value, unless this very cell has shown it while it arrived."""
        if self._last_answer == answer.id:
            return None
        from ipyrouter.notebook import display
        from ipyrouter.notebook.formats import Body

        body = Body(answer.text)
        if hasattr(self.shell, "kernel"):
            display.WholeDisplay("markdown").finish(answer, body)
        else:
            display.TerminalDisplay("markdown", stream=False).finish(answer, body)
        return None

    # --- what the shell tells ---

    def begin_cell(self, info: ExecutionInfo) -> None:
        """Note which cell runs, and tell of a misspelt `%config`, which IPython passes over in silence."""
        for name in re.findall(r"^%config\s+(ipyrouter)\.", info.raw_cell or "", re.MULTILINE | re.IGNORECASE):
            if name != "IPyRouter":
                print(f"There is no {name}, and nothing is set. Did you mean IPyRouter?", file=sys.stderr)
        self._cell = getattr(info, "cell_id", None)
        self._in_history = bool(info.store_history)
        self._run += 1

    def end_cell(self, result: ExecutionResult) -> None:
        """Note that the cell is over: its answer is shown again when asked for, its error is what --error sends."""
        from ipyrouter.errors import Interrupted, IPyRouterError

        self._last_answer = self._cell = None
        if self.outputs is not None:
            self.outputs.end_cell(result.execution_count)
        error = result.error_in_exec or result.error_before_exec
        if error is not None and not isinstance(error, IPyRouterError | Interrupted):
            self._failure = error, result.info.raw_cell if result.info else ""
        for panel in self.panels.values():
            panel.flush()
        if self._front_end is not None:
            failed = error is not None and self._failure is not None and self._failure[0] is error
            self._front_end.end_cell(getattr(result.info, "cell_id", None) if failed else None)
        self.unguard()
        if not self._warm:  # the cell with %load_ext is over: read the classifier while the user writes the next one
            from ipyrouter.classifier import warm_up

            self._warm = True
            warm_up()

    # --- what the JupyterLab extension asks ---

    def open_comm(self) -> None:
        """Open a comm for the JupyterLab extension, which finds it by its name; nothing is sent before it asks."""
        if not hasattr(self.shell, "kernel"):
            return
        import comm  # kernels have it

        self._comm = comm.create_comm(target_name="ipyrouter", primary=False)
        comm.get_comm_manager().register_comm(self._comm)
        self._comm.on_msg(self._receive)

    def close_comm(self) -> None:
        """Close it again."""
        if self._front_end is not None:
            self._front_end.close()
            self._comm.close()
        elif self._comm is not None:  # nobody has heard of it
            import comm

            comm.get_comm_manager().unregister_comm(self._comm)

    def _receive(self, message: dict[str, Any]) -> None:
        if self._front_end is None:
            from ipyrouter.notebook.front_end import FrontEnd

            self._front_end = FrontEnd(self._router, self._comm.send)
        self._front_end.receive(message["content"]["data"])


def _prompt(args: RouteLine, cell: str | None) -> str:
    from ipyrouter.errors import UsageError

    if cell is None:
        if not args.rest:
            raise UsageError(
                "There is no prompt.", "Write %route PROMPT, or %%route with the prompt on the lines below."
            )
        return args.rest
    if args.rest:
        raise UsageError(
            f"{args.rest[:60]!r} stands on the %%route line, where only options go.", "Move it to the lines below."
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
    shell.events.register("pre_run_cell", magics.begin_cell)
    shell.events.register("post_run_cell", magics.end_cell)
    shell.configurables.append(magics.settings)
    magics.matcher = completion.install(shell, magics.chat_names)
    magics.open_comm()
    input_transforms.install(shell)
    magics.unguard = input_transforms.guard_help(shell)


def unload(shell: InteractiveShell) -> None:
    """Take away what load registered, and stop the embedded server."""
    import ipyrouter

    magics = _loaded.pop(id(shell), None)
    if magics is None:
        return
    registered = shell.magics_manager.magics
    for kind, names in (("line", ("route", "router", input_transforms.MISPLACED)), ("cell", ("route",))):
        for name in names:
            registered[kind].pop(name, None)
    shell.display_formatter.ipython_display_formatter.pop(_ANSWER, None)  # type: ignore[union-attr]
    shell.events.unregister("pre_run_cell", magics.begin_cell)
    shell.events.unregister("post_run_cell", magics.end_cell)
    if magics.outputs is not None:
        magics.outputs.stop()
    shell.configurables.remove(magics.settings)
    completion.remove(shell, magics.matcher)
    magics.close_panels()
    magics.close_comm()
    input_transforms.remove(shell)
    ipyrouter.use_router(None)
