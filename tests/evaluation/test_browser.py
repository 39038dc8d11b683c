"""The report in a real browser: it asks for nothing, runs nothing, and fits a phone and a screen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import handlens
from blobs import write_images
from browser import chromium

NAMES = ("<script>document.title='x'</script>", "아주 긴 이름의 꽃 - 봄에 피는 것", "c")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run whose classes have hostile and long names."""
    folder = tmp_path_factory.mktemp("browser")
    plain = write_images(folder / "plain", per_class=24, seed=0, noise=0.9)
    data = folder / "data"
    for name, source in zip(NAMES, sorted(path for path in plain.iterdir() if path.is_dir()), strict=False):
        (data / name.replace("/", "\u2215")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, data / name.replace("/", "\u2215"))
    recipe = {"mode": "scratch", "width": 0.35, "image_size": 64, "epochs": 2, "workers": 0}
    run = handlens.train(data, out=folder / "run", recipe=recipe)
    return Path(handlens.report(run)["report"])


def test_it_asks_for_nothing_and_fits(reported):
    with chromium() as browser:
        for width, mobile in ((1280, False), (390, True)):
            browser.open(reported, width=width, mobile=mobile)
            asked = [one["request"]["url"] for one in browser.said("Network.requestWillBeSent")]
            assert [url for url in asked if not url.startswith("data:")] == [reported.resolve().as_uri()]
            assert not browser.said("Runtime.exceptionThrown") and not browser.said("Log.entryAdded")
            assert browser.value("document.scripts.length") == 0
            assert browser.value("document.title").startswith("run: ")
            assert browser.value("document.documentElement.scrollWidth") <= width
            outside = "[...document.querySelectorAll('p, h1, h2, h3, img, pre, dd, caption span')]"
            outside += ".filter(e => !e.closest('.wide, nav') && e.getBoundingClientRect().right > innerWidth + 0.5)"
            assert browser.value(f"{outside}.map(e => e.outerHTML.slice(0, 200))") == []
            assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_cells_of_the_matrix_open_their_images(reported):
    with chromium() as browser:
        browser.open(reported, width=1280)
        links = browser.value("[...document.querySelectorAll('table.matrix a')].map(a => a.getAttribute('href'))")
        assert links
        shown = "[...document.querySelectorAll('.cell')].filter(e => e.offsetHeight > 0).map(e => '#' + e.id)"
        assert browser.value(shown) == []
        browser.value(f"document.querySelector('a[href=\"{links[0]}\"]').click()")
        assert browser.value(shown) == [links[0]]
        assert browser.value(f"document.querySelector('{links[0]} img').getBoundingClientRect().width") > 50
        wanted = browser.value(f"Number(document.querySelector('table.matrix a[href=\"{links[0]}\"]').textContent)")
        there = browser.value(f"document.querySelectorAll('{links[0]} li').length")
        left = browser.value(
            f"document.querySelector('{links[0]}').textContent.match(/(\\d+) more are not shown/)?.[1] ?? 0"
        )
        assert there + int(left) == wanted
