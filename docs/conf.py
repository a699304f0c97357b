"""The documents as a website, by ``make docs``. The source folder is the project's root: links work as on GitHub."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

from salt_ray import __version__, config
from salt_ray.section import Section

ROOT = Path(__file__).parents[1]
HOME = "docs/index"
# A section of the home page, its lines "- [TITLE](PAGE.md): ..." (or .ipynb) are what the navigation shows.
SECTION = re.compile(r"^## ([^\n]+)\n(.+?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
SETTINGS = re.compile(r"^- `salt_ray\.config\.(\w+)`$", re.MULTILINE)
BOUNDS = re.compile(r"Annotated\[(\w+), Field\((.+?)\)\]")
ENTRY = re.compile(r"^- \[(.+?)\]\((.+?)\.(?:md|ipynb)\)", re.MULTILINE)

project, author, copyright = "salt-ray", "the authors of salt-ray", "the authors of salt-ray, MIT licence"
release = version = __version__
root_doc = HOME
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**", "experiments/*.md", "benchmarks/*.md"]
exclude_patterns = ["docs/site"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

nb_execution_mode = "off"  # pages show what is stored in the notebooks: make notebooks
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["misc.highlighting_failure"]  # blocks that mix a command with what it prints
highlight_language = "none"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = "salt-ray"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["site/static"]
html_css_files = ["salt-ray.css"]
html_extra_path = ["site/index.html"]  # the root of the site leads to its home page
templates_path = ["site/templates"]
html_sidebars = {"**": ["pages.html"]}
html_theme_options = {
    "navbar_center": [],  # all pages are in the sidebar
    "navbar_persistent": ["search-button"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
}


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_commands)
    app.connect("source-read", add_navigation)
    app.connect("source-read", add_settings)


def add_commands(app: Sphinx, name: str, source: list[str]) -> None:
    """Every command and option, by Typer from the command line itself."""
    if name == "docs/reference/commands":
        words = [sys.executable, "-m", "typer", "salt_ray.cli.main", "utils", "docs", "--name", "salt-ray"]
        page = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        source[0] += "\n#" + page.lstrip()


def add_navigation(app: Sphinx, name: str, source: list[str]) -> None:
    """The navigation is the home page's own lists of links, section by section."""
    if name == HOME:
        for title, body in SECTION.findall(source[0]):
            pages = "\n".join(f"{text} <{page}>" for text, page in ENTRY.findall(body))
            source[0] += f"\n:::{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n:::\n"


def add_settings(app: Sphinx, name: str, source: list[str]) -> None:
    """Each class of settings that the page lists becomes a table of its fields."""
    if name == "docs/reference/settings":
        source[0] = SETTINGS.sub(lambda found: settings_table(getattr(config, found[1])), source[0])


def settings_table(section: type[Section]) -> str:
    """Name, type and default of each field, with the comment before it in the code."""
    comments = ModuleAnalyzer.for_module(section.__module__).find_attr_docs()
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, field in section.model_fields.items():
        owner = next(base for base in section.__mro__ if name in inspect.get_annotations(base))
        kind = BOUNDS.sub(r"\1, \2", owner.__annotations__[name]).replace("Strict", "")
        default = field.get_default(call_default_factory=False)
        shown = type(default).__name__ if isinstance(default, Section) else f"`{default!r}`"
        meaning = " ".join(comments.get((owner.__qualname__, name), []))
        cells = (f"`{name}`", f"`{kind}`", "required" if field.is_required() else shown, meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return f"### {section.__name__}\n\n{inspect.getdoc(section)}\n\n" + "\n".join(rows) + "\n"
