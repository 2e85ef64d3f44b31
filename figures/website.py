"""Build the site: `python figures/website.py` turns README, notebooks, ledger and docstrings into pages to be searched.

    build/site/source      what is gathered: copies whose links lead to pages, and a page for each public module
    build/site/extra       the explorer as one page, computed anew, which takes two minutes
    build/site/html        the pages; index.html is the front, and all of it reads without a network, from a folder too

    --external             ask the addresses outside, too, whether they answer (needs a network, and minutes)

Notebooks are shown with their stored output and never run. A link, an image, a reference or an anchor that leads
nowhere is an error. Sphinx and its kin are needed to build, not to gather; `make site` installs them.
"""

from __future__ import annotations

import argparse
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from reference import api_page, documented, entries, entry_name, module_page, modules, readable

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "site"
PAGES = ["README.md", "notebooks/README.md", "figures/ledger.md"]
MADE = {"explorer.html"}  # files that are made for the site alone
_PLAY = '<p><a href="explorer.html">Drag a start, and see where it goes</a>: nothing to install.</p>\n'

# --- gathering ------------------------------------------------------------------------------------------------


def sources() -> list[str]:
    """The pages that are written by hand or by notebooks, as paths in the repository."""
    return PAGES + [f"notebooks/{path.name}" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]


def page(path: str) -> str | None:
    """Where the site has a file of the repository: a source of a page, or the file itself; None if it has not."""
    if path in sources():
        return re.sub(r"README\.md$", "index.md", path)
    if path.split("/")[0] == "flatdyn" and (ROOT / path).exists():
        name = re.sub(r"/__init__$|/$", "", path.removesuffix(".py")).replace("/", ".")
        while name not in modules():
            name = name.rpartition(".")[0]
        return api_page(name)
    if (ROOT / path / "README.md").is_file():
        return page(os.path.normpath(f"{path}/README.md"))
    return path if (ROOT / path).is_file() else None


LINK = re.compile(r"(?P<before>\]\(<?|\b(?P<raw>href|src)=[\"'])(?P<path>(?![a-z]+:|#|/)[^)>\"'#\s]+)")


def led(text: str, source: str, files: set[str], raw_files: set[str]) -> str:
    """The text of a page with its relative links led to pages; what they need beside pages is added to the files.

    A browser, and not Sphinx, follows the links that are written as HTML: these must name the finished page.

    Raises:
        FileNotFoundError: if a link leads nowhere
    """
    here = os.path.dirname(page(source) or source)

    def lead(match: re.Match) -> str:
        path = os.path.normpath(os.path.join(os.path.dirname(source), unquote(match["path"])))
        target = page(path)
        if target is None:
            raise FileNotFoundError(f"{source} links to {match['path']}, which is no page and no file")
        if target == path and path not in sources():
            (raw_files if match["raw"] else files).add(path)
        elif match["raw"]:
            target = re.sub(r"\.\w+$", ".html", target)
        return match["before"] + os.path.relpath(target, here or ".")

    return LINK.sub(lead, text)


def notebook_page(path: str, files: set[str], raw_files: set[str]) -> str:
    """A notebook whose texts, and the texts among its stored output, have their links led to pages.

    A page has one title: what follows a second one goes down a level, or the page would be two in the contents.
    """
    notebook = json.loads((ROOT / path).read_text())
    titles = 0

    def renewed(text: str | list[str]) -> str:
        return led("".join(text), path, files, raw_files)

    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = renewed(cell["source"])
            titles += cell["source"].startswith("# ")
            if titles > 1:
                cell["source"] = re.sub(r"^#+ ", r"#\g<0>", cell["source"], flags=re.M)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data |= {kind: renewed(data[kind]) for kind in ("text/markdown", "text/html") if kind in data}
    return json.dumps(notebook, ensure_ascii=False)


def gathered() -> tuple[dict[str, str], set[str], set[str]]:
    """The texts of all source pages, the files that they show or offer, and those that a browser asks for itself."""
    files, raw_files, texts = set(), set(), {}
    for path in sources():
        if path.endswith(".ipynb"):
            texts[path] = notebook_page(path, files, raw_files)
        else:
            texts[page(path)] = led((ROOT / path).read_text(), path, files, raw_files)
    notebooks = [f"{_title(path)} <{Path(path).stem}>" for path in sources() if path.endswith(".ipynb")]
    texts["index.md"] = texts["index.md"].replace("\n## ", f"\n{_PLAY}\n## ", 1)
    texts["index.md"] += _toctree(["notebooks/index", "figures/ledger", "Reference <api/index>"])
    texts["notebooks/index.md"] += _toctree(notebooks)
    texts |= {api_page(name): module_page(name) for name in modules()}
    return texts, files, raw_files


def _title(path: str) -> str:
    """The question of a notebook, with its number."""
    first = next(cell for cell in json.loads((ROOT / path).read_text())["cells"] if cell["cell_type"] == "markdown")
    title = "".join(first["source"]).splitlines()[0].lstrip("# ")
    number = Path(path).name[:2]
    return title if title.startswith(number) else f"{number} {title}"


def _toctree(pages: list[str]) -> str:
    return "\n\n```{toctree}\n:hidden:\n\n" + "\n".join(pages) + "\n```\n"


# --- Sphinx ---------------------------------------------------------------------------------------------------

CONFIG = {
    "project": "flatdyn",
    "copyright": "the flatdyn authors",
    "extensions": ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "website"],
    "root_doc": "index",
    "nitpicky": True,
    # What is stored is what is shown
    "nb_execution_mode": "off",
    "nb_render_markdown_format": "myst",
    "nb_merge_streams": True,
    "suppress_warnings": ["mystnb.unknown_mime_type"],  # a figure's digest travels unseen
    "myst_enable_extensions": ["dollarmath", "amsmath"],
    "myst_heading_anchors": 4,
    "autodoc_member_order": "bysource",
    "autodoc_typehints_format": "short",
    "autodoc_inherit_docstrings": False,
    "napoleon_numpy_docstring": False,
    "napoleon_custom_sections": [("Attributes", "params_style")],
    "napoleon_use_param": False,  # which takes the first of two names for the second's type
    "napoleon_use_rtype": False,
    "python_maximum_signature_line_length": 88,
    "toc_object_entries_show_parents": "hide",
    "html_theme": "furo",
    "html_title": "flatdyn",
    "html_static_path": [str(Path(__file__).with_suffix(".css"))],
    "html_css_files": ["website.css"],
    "html_extra_path": [str(SITE / "extra")],
    "html_math_renderer": "mathml",
    "html_show_sphinx": False,
}


def setup(app: Any) -> dict[str, bool]:
    """This file as an extension of Sphinx: docstrings made readable, names found, equations as MathML."""
    app.connect("autodoc-process-docstring", _process_docstring, priority=400)  # before napoleon reads the sections
    app.connect("autodoc-process-bases", _process_bases)
    app.connect("missing-reference", _find_reference)
    app.connect("html-page-context", _finish_source_page)
    app.add_html_math_renderer("mathml", (_inline_math, None), (_display_math, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _process_docstring(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    owner = value
    if what not in ("module", "class", "exception"):
        holder = name.rpartition(".")[0]
        owner = next((entry.value for entry in entries().values() if entry.name == holder), value)
    lines[:] = readable(lines, owner)


def _process_bases(app: Any, name: str, value: type, options: Any, bases: list[Any]) -> None:
    """Only what has an entry: private classes in between, and those of other packages, help no reader."""
    public = [base for base in value.__mro__[1:] if entry_name(base)]
    direct = [base for base in public if not any(base in other.__mro__[1:] for other in public)]
    bases[:] = [f":py:obj:`{base.__name__} <{entry_name(base)}>`" for base in direct]


def _finish_source_page(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """A module's names have entries on more than one page, which the way back from its source does not know."""
    module = sys.modules.get(pagename.removeprefix("_modules/").replace("/", "."))

    def lead(match: re.Match) -> str:
        name = documented(match["name"], module) or match["name"]
        homes = [entry.home for entry in entries().values() if f"{name}.".startswith(f"{entry.name}.")]
        uri = app.builder.get_relative_uri(pagename, api_page(homes[0]).removesuffix(".rst"))
        return f'{match["before"]}{uri}#{name}"'

    if pagename.startswith("_modules/flatdyn"):
        pattern = r'(?P<before>id="(?P<name>[\w.]+)">\s*<a class="viewcode-back" href=")[^"]+"'
        context["body"] = re.sub(pattern, lead, context["body"])


def _find_reference(app: Any, env: Any, node: Any, contents: Any) -> Any:
    """Types in signatures, by whatever path they are imported; those of other packages stay words."""
    if node.get("refdomain") != "py" or "refwarn" in node:
        return None
    target = documented(node["reftarget"])
    if not target:
        return contents
    kind = "mod" if target in modules() else "obj"
    return env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, kind, target, node, contents) or contents


def _inline_math(writer: Any, node: Any) -> None:
    _write_math(writer, node, False)


def _display_math(writer: Any, node: Any) -> None:
    _write_math(writer, node, True)


def _write_math(writer: Any, node: Any, displayed: bool) -> None:
    """An equation as MathML, which browsers show themselves."""
    from docutils.nodes import SkipNode
    from math_core import LatexToMathML

    writer.body.append(LatexToMathML().convert_with_local_state(node.astext(), displaystyle=displayed))
    raise SkipNode


# --- building and checking ------------------------------------------------------------------------------------


class _Page(html.parser.HTMLParser):
    """The addresses that a page uses, and the anchors that it has."""

    def __init__(self, text: str):
        super().__init__()
        self.used, self.loaded, self.anchors = set(), set(), {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        for key in ("href", "src"):
            if values.get(key):
                (self.used if tag == "a" else self.loaded).add(values[key])


def broken(folder: Path) -> list[str]:
    """What is wrong with finished pages: links to no file or no anchor, and anything that needs a network to show."""
    pages = {path: _Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    wrong = []
    for path, page_ in pages.items():
        outside = {address for address in page_.loaded if re.match(r"(https?:)?//", address)}
        wrong += [f"{path.relative_to(folder)} loads {address}" for address in sorted(outside)]
        for address in sorted((page_.used | page_.loaded) - outside):
            if re.match(r"[a-z]+:", address):
                continue
            file, _, anchor = unquote(re.sub(r"\?[^#]*", "", address)).partition("#")
            target = Path(os.path.normpath(path.parent / file)) if file else path
            known = pages[target].anchors if target in pages else {""}
            if not target.is_file() or (anchor not in known):
                wrong.append(f"{path.relative_to(folder)} links to {address}")
    return wrong


def write() -> None:
    """Lay the sources out, afresh."""
    texts, files, raw_files = gathered()
    shutil.rmtree(SITE, ignore_errors=True)
    for name, text in texts.items():
        (SITE / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (SITE / "source" / name).write_text(text)
    for folder, names in (("source", files), ("extra", raw_files)):
        (SITE / folder).mkdir(exist_ok=True)
        for name in names:
            (SITE / folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, SITE / folder / name)
    import jax

    from flatdyn.explorer.page import write_page

    with jax.enable_x64(True):
        write_page(SITE / "extra" / "explorer.html")
    here = str(Path(__file__).parent)
    configuration = (
        f"import sys\n\nsys.path.insert(1, {here!r})\nfrom website import CONFIG\n\nglobals().update(CONFIG)\n"
    )
    (SITE / "source" / "conf.py").write_text(configuration)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--external", action="store_true", help="ask the addresses outside, too")
    external = parser.parse_args().external
    write()
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-j", "auto", str(SITE / "source")]
    status = subprocess.run([*sphinx, str(SITE / "html"), "-d", str(SITE / "doctrees")], check=False).returncode
    wrong = broken(SITE / "html")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    if external:
        status |= subprocess.run([*sphinx, "-b", "linkcheck", str(SITE / "external")], check=False).returncode
    if status or wrong:
        print(f"the site has {len(wrong)} links that lead nowhere" if wrong else "Sphinx has warned: see above")
        return 1
    print(f"{sum(1 for _ in (SITE / 'html').rglob('*.html'))} pages: open {SITE / 'html' / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
