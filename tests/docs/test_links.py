"""Links of README and docs lead somewhere, and the menu of the site has every page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from utility import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
READ = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "experiment/README.md")] + PAGES
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def links(page: Path) -> list[str]:
    """The targets of links and pictures, code left out."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S), re.M
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", READ, ids=name_of)
def test_links_lead_somewhere(page):
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link
        if DOCS in page.parents:  # the site has nothing else
            assert DOCS in target.parents, f"{link} leaves docs/; name the file as code"


def test_the_menu_has_every_page_once():
    menu = re.findall(r"^ +- .*?: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(menu) == [page.relative_to(DOCS).as_posix() for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_is_short_and_has_one_title(page):
    text = page.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    assert len(re.findall(r"^# ", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)) == 1


def test_every_picture_is_shown():
    shown = {(page.parent / link).resolve() for page in READ for link in links(page)}
    assert set((DOCS / "images").iterdir()) <= shown
