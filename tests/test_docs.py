"""What the docs quote is there: messages, pages, files."""

import re

import pytest

from tests.support import api_page
from tests.support.toy import ROOT

PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


def code() -> str:
    """All source, with texts that span several lines in one piece."""
    files = sorted((ROOT / "exits_jax").glob("**/*.py"))
    text = "\n".join(path.read_text() for path in files)
    return re.sub(r'"\s*\n\s*f?"', "", text)


CODE = code()


def quoted() -> list[str]:
    """The messages of the page on troubleshooting, without what varies in them."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    cells = re.findall(r"^\| (`.*?`|E\d+, `.*?`)(?: |,|\|)", page, re.MULTILINE)
    messages = [part for cell in cells for part in re.findall("`(.*?)`", cell)]
    pieces = []
    for message in messages:
        varying = r"\.\.\.|N %|\b[NMX]\b|'exits-jax.*|/X.*|ViT-\w+|\(.*?\)|HOST"
        pieces += [p.strip(" ,:;/") for p in re.split(varying, message)]
    return sorted({piece for piece in pieces if len(piece) >= 8})


def test_the_page_on_troubleshooting_quotes_messages():
    assert len(quoted()) >= 15


@pytest.mark.parametrize("piece", quoted())
def test_a_quoted_message_is_in_the_code(piece):
    assert piece in CODE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_links_to_what_exists(page):
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
    local = [link for link in links if "://" not in link]
    gone = [link for link in local if not (page.parent / link).exists()]
    assert not gone


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    names = {page.name for page in ROOT.glob("docs/*.md")} - {"index.md"}
    assert {name for name in names if f"({name})" not in index} == set()


def test_the_api_page_is_that_of_the_code():
    assert api_page.PAGE.read_text() == api_page.page(), api_page.__doc__


def test_every_row_of_bad_input_that_tests_name_is_on_its_page():
    page = (ROOT / "docs" / "bad_input.md").read_text()
    listed = set()
    for cell in re.findall(r"^\| (B\d\d.*?) \|", page, re.MULTILINE):
        first, *others = re.findall(r"\d\d", cell)
        is_range = "-" in cell
        listed |= set(range(int(first), int(others[0]) + 1)) if is_range else set()
        listed |= {int(first), *map(int, others)}
    assert listed == set(range(1, 57))
