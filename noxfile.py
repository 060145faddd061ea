"""The project's sessions: `nox` runs the fast ones, `nox -l` lists them all, `nox -s NAME -- ARGUMENTS` runs one.

Each has an environment of its own, with the versions of requirements/dev.txt. `.ci/run` needs none of this.
"""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", f"tests-{sys.version_info.major}.{sys.version_info.minor}"]

LOCK = Path("requirements", "dev.txt")
LITELLM = "litellm[proxy]==1.108.7"  # one version, not the newest: 1.107.0 was reported as compromised
MUTATED = (
    "budget",
    "ledger",
    "spending",
    "breaker",
    "prices",
    "tokens",
    "amounts",
    "single_flight",
    "redact",
    "sanitise",
)
BESIDE_MODULES = {  # what else the wheel holds
    "ipyrouter/py.typed",
    "ipyrouter/config/defaults.toml",
    "ipyrouter/classifier/weights.npz",
    "ipyrouter/providers/input.toml",
    "ipyrouter/providers/models.toml",
    "ipyrouter/providers/providers.toml",
    "ipyrouter/store/postgres/sql/0001.sql",
}
MEGABYTE = 1 << 20


def install(session: nox.Session, package: str = "-e.") -> None:
    """Install the locked versions of all that a contributor needs, and this package, or a built one."""
    session.install("--require-hashes", "-r", str(LOCK))
    session.install("--no-deps", package)


def empty_folder(session: nox.Session) -> Path:
    """Return a folder of the session's own, empty."""
    folder = Path(session.create_tmp()).resolve()
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


@nox.session
def lint(session: nox.Session) -> None:
    """Check rules and format with ruff."""
    install(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the package with mypy, and uses of its public interface with mypy and pyright."""
    install(session)
    session.run("mypy")
    session.run("mypy", "--strict", "tests/typing/accepted.py")
    session.run("pyright", "tests/typing/accepted.py")
    session.run("pytest", "-n0", "tests/typing")  # and what must be rejected, line by line


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """Run the fast tests, or those that the arguments say: `nox -s tests-3.11 -- -m kernel`."""
    install(session)
    session.run("pytest", *(session.posargs or ["-m", "unit or wire"]))


@nox.session
def attachments(session: nox.Session) -> None:
    """Test what `--with` and `--file` make of libraries that not everybody has."""
    install(session)
    session.install("geopandas", "kaleido", "plotly", "pypdf", "seaborn", "xarray")
    session.run("pytest", "-n0", "tests/attachments", *session.posargs)


@nox.session
def litellm(session: nox.Session) -> None:
    """Send calls through a real LiteLLM proxy, which gets an environment of its own, to the loopback server."""
    install(session)
    folder = empty_folder(session)
    session.run("uv", "venv", "--quiet", str(folder))
    session.run("uv", "pip", "install", "--quiet", "--python", str(folder), LITELLM)  # pip tries versions for long
    environment = {"LITELLM": str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "litellm")}
    session.run("pytest", "-n0", "tests/real/test_litellm.py", *session.posargs, env=environment)


@nox.session
def marimo(session: nox.Session) -> None:
    """Run a real marimo notebook that asks the loopback server."""
    install(session)
    session.install("marimo>=0.25")
    session.run("pytest", "-n0", "tests/real/test_marimo.py", *session.posargs)


@nox.session(name="front-ends")
def front_ends(session: nox.Session) -> None:
    """Open a notebook in Voilà, marimo, nbconvert's pages, a stand-in for VS Code and two terminals."""
    install(session)
    session.install("marimo>=0.25", "pyte>=0.8", "voila>=0.5")
    session.run("npm", "ci", "--silent", "--prefix", "tests/front_ends", external=True)
    session.run("pytest", "-n0", "tests/front_ends", *session.posargs)


@nox.session(name="oldest-lab")
def oldest_lab(session: nox.Session) -> None:
    """Test the extension in the oldest JupyterLab and Notebook that it is for."""
    install(session)
    session.install("jupyterlab==4.4.*", "notebook==7.4.*")
    session.run("pytest", "-n0", "tests/browser", *session.posargs)


@nox.session
def spark(session: nox.Session) -> None:
    """Test a prompt over a frame of Spark, which needs Java: `apt-get install default-jre-headless`."""
    install(session)
    session.install("pyspark[connect]>=4")
    session.run("pytest", "-n0", "tests/batch/test_engines.py", "-k", "spark", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build sdist and wheel, look into them, and test the wheel where the package's source is not."""
    folder = empty_folder(session)
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(folder))  # the wheel is built from the sdist
    (sdist,), (built,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    if sdist.stat().st_size > 3 * MEGABYTE:
        session.error(f"{sdist.name} has over 3 MB: exclude in pyproject.toml what the build does not need.")
    names = set(zipfile.ZipFile(built).namelist())
    ours = (".dist-info/", ".data/data/share/jupyter/labextensions/ipyrouter/")
    strange = {n for n in names - BESIDE_MODULES if not (n.endswith(".py") or any(part in n for part in ours))}
    if not any(name.endswith("labextensions/ipyrouter/package.json") for name in names):
        session.error(f"{built.name} has no JupyterLab extension.")
    if strange or BESIDE_MODULES - names:
        session.error(f"{built.name}: not expected {sorted(strange)}, missing {sorted(BESIDE_MODULES - names)}")
    install(session, str(built))
    for name in str(session.run("git", "ls-files", external=True, silent=True)).splitlines():
        if not name.startswith("ipyrouter/"):  # tests read docs, notebooks, training data and benchmarks too
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, folder / name)
    with session.chdir(folder):
        code = "import ipyrouter; print(ipyrouter.__file__); assert 'site-packages' in ipyrouter.__file__"
        session.run("python", "-c", code, env={"PYTHONPATH": ""})
        arguments = session.posargs or ["-m", "not browser"]
        # Without TMPDIR, which nox sets: that folder lies in this repository, and some tests need one outside of any.
        session.run("python", "-m", "pytest", *arguments, env={"PYTHONPATH": "", "TMPDIR": None})


@nox.session(venv_backend="none")
def labextension(session: nox.Session) -> None:
    """Build the JupyterLab extension from its sources (needs Node.js), and fail if its assets are other ones."""
    with session.chdir("labextension"):
        session.run("npm", "ci", "--silent", external=True)
        session.run("npm", "run", "lint", external=True)
        session.run("npm", "run", "build", external=True)
    session.run("git", "diff", "--exit-code", "--stat", "labextension/assets", external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into docs/_build, with warnings as errors; `nox -s docs -- -b linkcheck` checks links."""
    install(session)
    session.run("sphinx-build", "--fail-on-warning", "--keep-going", *session.posargs, "docs", "docs/_build")


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure branches in this process, in kernels and on the command line."""
    install(session)
    session.run("coverage", "erase")
    # -n0, because pytest-xdist kills workers that take long to write what they measured.
    session.run("coverage", "run", "-m", "pytest", "-n0", *(session.posargs or ["-m", "not browser"]))
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def mutation(session: nox.Session) -> None:
    """Change our code in many small ways, and fail if tests do not notice one in twenty.

    Arguments are modules, and the tests that should notice: `nox -s mutation -- pricing money tests/test_pricing.py`.
    By default these are the modules that guard money and secrets, and all tests that are unit or wire: hours.
    """
    install(session)
    tests = [name for name in session.posargs if name.startswith("tests")]
    modules = [name for name in session.posargs if name not in tests] or MUTATED
    settings = {
        "source_paths": ["ipyrouter"],
        "only_mutate": [f"*/{name}.py" for name in modules],
        "also_copy": ["tests"],
        "pytest_add_cli_args": ["-n0", "-m", "unit or wire", "--ignore=tests/browser"],
        "pytest_add_cli_args_test_selection": tests or ["tests"],
    }
    folder = empty_folder(session)
    for name in session.run("git", "ls-files", external=True, silent=True).splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, folder / name)
    with (folder / "pyproject.toml").open("a") as file:
        file.write("\n[tool.mutmut]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    with session.chdir(folder):
        session.run("mutmut", "run")
        session.run("mutmut", "results")
        session.run("mutmut", "export-cicd-stats", silent=True)
        counts = json.loads(Path("mutants", "mutmut-cicd-stats.json").read_text("utf-8"))
    alive, every = counts["survived"] + counts["no_tests"], counts["total"]
    session.log(f"{alive} of {every} mutants live ({alive / every:.1%}); see one with `mutmut show NAME` in {folder}.")
    if not every or alive / every > 0.05:
        session.error("Too many mutants live.")


@nox.session
def lock(session: nox.Session) -> None:
    """Rewrite requirements/dev.txt; `nox -s lock -- --upgrade` takes the newest versions."""
    compile_lock(session, LOCK, *session.posargs)


@nox.session(name="lock-check")
def lock_check(session: nox.Session) -> None:
    """Fail if requirements/dev.txt is not what pyproject.toml asks for, or names where packages come from."""
    again = Path(session.create_tmp(), LOCK.name)
    shutil.copy(LOCK, again)  # versions that still fit stay
    compile_lock(session, again)
    if again.read_text("utf-8") != LOCK.read_text("utf-8"):
        session.error(f"{LOCK} is out of date: run `nox -s lock`.")
    if "://" in LOCK.read_text("utf-8"):
        session.error(f"{LOCK} holds an address.")


def compile_lock(session: nox.Session, path: Path, *arguments: str) -> None:
    """Write the versions and hashes of everything, for all our Pythons and platforms, without any index's address."""
    session.install("uv")
    session.run(
        "uv", "pip", "compile", "pyproject.toml", "--extra=dev", "--universal", "--python-version=3.11",
        "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-annotate",
        "--custom-compile-command=nox -s lock", "--quiet", f"--output-file={path}", *arguments,
    )  # fmt: skip
