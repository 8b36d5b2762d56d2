"""The sample app's page in a browser: blocking requests run side by side here, and queue at Flask's own server.

Flask's server is started with one thread, as `make demo` does.
"""

import contextlib
import itertools
import os
import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import TimeoutError as TooLate
from playwright.sync_api import sync_playwright

SHARED = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "molecule/shared"
CACHE = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / ".cache"
PICTURE = CACHE / "lanes.png"
# Its sandbox does not work for root in a container; it asks nobody but the host under test.
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
         "--disable-component-update"]  # fmt: skip
SECONDS = 60_000  # milliseconds: no test waits longer


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(fleet, addresses):
    """Where the page is, on the first host, which gets Flask's own server."""
    name = fleet[0].backend.name
    subprocess.run([SHARED / "own-server.sh", "docker", "exec", name], check=True)
    return f"http://{addresses[name]}/"


@pytest.fixture
def open_page(browser, address):
    """Open the page; the test fails if a script says an error."""
    errors, pages = [], []

    def make(**options):
        page = browser.new_page(**options)
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        pages.append(page)
        return page

    yield make
    for page in pages:
        page.close()
    assert not errors


def fire(page, count, milliseconds):
    """Fill in the form with the keyboard alone; returns the work of each request by chart: begin and end, in ms."""
    page.focus("#fire input[name=count]")
    page.keyboard.press("Control+A")
    page.keyboard.type(str(count))
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type(str(milliseconds))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_function(
        """() => [...document.querySelectorAll("#lanes .sum")].every((sum) => sum.textContent) &&
                 !document.querySelector("#fire button").disabled""",
        timeout=SECONDS,
    )
    return [
        sorted((float(bar.get_attribute("data-began")), float(bar.get_attribute("data-end"))) for bar in bars)
        for bars in (chart.query_selector_all(".bars li") for chart in page.query_selector_all("#lanes figure"))
    ]


def at_once(bars):
    """The most requests that were at work at the same moment."""
    return max(sum(begin <= moment < end for begin, end in bars) for moment, _end in bars)


def test_blocking_requests_run_side_by_side_and_queue_at_one_thread(open_page):
    page = open_page(viewport={"width": 1100, "height": 900})
    ours, queue = fire(page, 6, 800)
    page.locator("#lanes").screenshot(path=PICTURE)
    assert (len(ours), len(queue)) == (6, 6)
    assert at_once(ours) >= 4
    # One begins when the one before has ended; the clocks of two processes meet here, and an answer takes its time.
    assert all(after[0] > before[0] + 700 for before, after in itertools.pairwise(queue))
    assert queue[-1][1] > 6 * 800


@pytest.mark.parametrize(
    "options",
    [{"color_scheme": "dark"}, {"viewport": {"width": 375, "height": 800}}, {"reduced_motion": "reduce"}],
    ids=["dark", "phone", "reduced motion"],
)
def test_page_fits_and_works_everywhere(options, open_page):
    page = open_page(**options)
    assert [len(bars) for bars in fire(page, 2, 100)] == [2, 2]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"


def test_requests_beyond_six_are_told_to_wait_in_the_browser(open_page):
    page = open_page()
    assert len(fire(page, 8, 300)[0]) == 8
    assert page.locator("#limit").is_visible()


def test_worker_that_is_restarted_loses_no_answer_and_is_seen(open_page):
    page = open_page()
    seen = re.compile(r"(\d+) answers of (\d+) processes .*, 0 failed\.")
    workers = "document.querySelectorAll('#watch .line').length"
    restarted = f"Number(document.querySelector('#watch .sum').textContent.match(/of (\\d+) proc/)?.[1]) > {workers}"
    for _click in range(SECONDS // 5_000):  # one alone may meet a worker that had answered nothing before
        page.click("#watch [data-deed=restart]", timeout=SECONDS)
        with contextlib.suppress(TooLate):
            page.wait_for_function(restarted, timeout=5_000)
            break
    assert seen.match(page.inner_text("#watch .sum")), page.inner_text("#watch .sum")
    assert len(page.query_selector_all("#watch i.first")) > page.evaluate(workers)


def test_deploy_under_load_is_seen_on_the_page_and_told_with_a_picture(open_page, fleet, addresses):
    """What `make demo-deploy` does, on this host."""
    page = open_page(viewport={"width": 1100, "height": 900})
    button = page.locator("#watch [data-deed=deploy]")
    button.evaluate("(button) => { button.dataset.seconds = 600 }")  # a slow machine takes its time
    button.click()
    assert "make demo-deploy" in page.inner_text("#watch .hint")
    container = fleet[0].backend.name
    command = [SHARED / "demo_release.py", "good", "--inventory", os.environ["MOLECULE_INVENTORY_FILE"],
               "--host", container.rpartition("-")[0], "--address", f"{addresses[container]}:80"]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    told = re.search(
        r"\d+ requests were answered during this run \(\d+ by (\w+), \d+ by (\w+)\), 0 failed\.", done.stdout
    )
    assert told, done.stdout
    page.wait_for_function(
        "document.querySelector('#watch .sum').textContent.includes(' 2 releases ')", timeout=SECONDS
    )
    page.locator("#watch").screenshot(path=CACHE / "watch.png")
    seen = re.search(r"\((\w+), (\w+)\), 0 failed\.", page.inner_text("#watch .sum"))
    assert set(seen.groups()) == set(told.groups())
    drawn = (CACHE / "demo.svg").read_text(encoding="utf-8")
    assert all(f"{release}: " in drawn for release in told.groups())
