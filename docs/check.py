"""What Sphinx does not check of its own result: fails on a public name without an entry, and on a broken link.

    python docs/check.py docs/_build/html

Links to other sites are not followed. README.md and CHANGELOG.md are checked too.
"""

import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from docstrings import MODULES

ROOT = Path(__file__).resolve().parent.parent


class Page(HTMLParser):
    """The anchors of a page, and what it links to or shows."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


@cache
def page(path):
    return Page(path.read_text(encoding="utf-8"))


def missing_names(html):
    documented = set().union(*(page(path).anchors for path in html.rglob("*.html")))
    names = (f"{module}.{name}" for module, contents in MODULES.items() for name in contents.__all__)
    return [
        f"{name}: public, but not in the documentation" for name in names if not documented & {name, f"module-{name}"}
    ]


def broken_links(html):
    for path in sorted(html.rglob("*.html")):
        for link in page(path).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{path.relative_to(html)}: broken link {link}"
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in page(target).anchors:
                yield f"{path.relative_to(html)}: no such place {link}"


def broken_links_of_markdown():
    for name in ("README.md", "CHANGELOG.md"):
        for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / name).read_text(encoding="utf-8")):
            if not urlsplit(link).scheme and not (ROOT / link.split("#")[0]).exists():
                yield f"{name}: broken link {link}"


def main(html):
    pages = list(html.rglob("*.html"))
    findings = [*missing_names(html), *broken_links(html), *broken_links_of_markdown()]
    print(*findings, sep="\n", end="\n" if findings else "")
    names = sum(len(module.__all__) for module in MODULES.values())
    print(f"docs: {len(pages)} pages, {names} public names, {len(findings)} findings")
    if findings or not pages:
        sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
