"""Sphinx's settings for the site; ``tools/site.py`` collects its pages and calls Sphinx."""

import inspect
import re

from sphinx.util.inspect import stringify_signature

from gen import __version__

project = "Ottava"
release = __version__
root_doc = "index"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["README.md"]  # the front page includes it
html_theme = "furo"
html_title = f"Ottava {release}"
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]
myst_heading_anchors = 4  # as on GitHub: a link may name any heading
autodoc_member_order = "bysource"
# Names as the sources write them: a shape is no help when it is printed in full.
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88

_UNDERLINE = re.compile(r"-{3,}$")
_ITEM = re.compile(r"[\w{}, ]+: ")


def _paragraphs(lines):
    """Runs of lines between empty ones."""
    run = []
    for line in [*lines, ""]:
        if line.strip():
            run.append(line)
        elif run:
            yield run
            run = []


def _is_list(lines):
    """Lines as ``name, name: text``, each with its continuation indented."""
    heads = [line for line in lines if line[0] != " "]
    return len(lines) > 1 and lines[0][0] != " " and all(map(_ITEM.match, heads))


def _lists(app, what, name, obj, options, lines):
    """Lists of ports in a docstring, with or without an underlined title, as lists of the page."""
    made = []
    for run in _paragraphs(lines):
        titled = len(run) > 1 and _UNDERLINE.match(run[1])
        if titled:
            made += [f"**{run[0].strip()}**", ""]
            run = run[2:]
        if titled or _is_list(run):
            run = ["  " + line.lstrip() if line[0] == " " else "- " + line for line in run]
        made += [*run, ""]
    lines[:] = made


def _signature(app, what, name, obj, options, signature, result):
    """Of a component its own parameters: they pass through a ``__new__`` that takes anything."""
    if what != "class" or signature is None or "src_loc_at" not in signature:
        return signature, result
    own = inspect.signature(obj)
    return stringify_signature(own, show_return_annotation=False, unqualified_typehints=True), ""


def setup(app):
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _lists)
