"""Notebooks in JupyterLab in a real browser: opened, run, their figures and no error found: `make browser`.

    python tests/browser.py [--only 01 --only 08 ...] [--folder SHOTS]

A server is started on the loopback address, with a copy of the notebooks. Each notebook is opened and photographed as a
reader finds it, then all its cells are run, and it is photographed again. What must be so: every cell has run, there is
no error and nothing on stderr, every figure is there (the committed one above and the small one below), nothing of a
digest is seen, and the links lead to notebooks that are there.
"""

import argparse
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHROMIUM = "chromium", "chromium-browser", "google-chrome"
PATIENCE = 600  # seconds until a notebook's cells have run
# All cells stand on the page, whether seen or not; no questions are asked
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": '{"windowingMode": "none"}',
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": '{"fetchNews": "false"}',
}
COUNTED = """() => {
    const outputs = [...document.querySelectorAll('.jp-Notebook .jp-OutputArea-output')];
    const images = [...document.querySelectorAll('.jp-Notebook .jp-OutputArea-output img')];
    const prompts = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputArea-prompt')];
    return {
        errors: outputs.filter(o => /jupyter\\.(error|stderr)/.test(o.dataset.mimeType || '')).map(o => o.innerText),
        figures: images.filter(i => i.complete && i.naturalWidth > 200 && i.clientWidth > 200).length,
        broken: images.filter(i => i.complete && !i.naturalWidth).length,
        digests: outputs.filter(o => /range \\S+ \\S+ means/.test(o.innerText)).length,
        prompts: prompts.map(p => p.innerText.trim()),
        links: [...document.querySelectorAll('.jp-Notebook a[href*=".ipynb"]')].map(a => a.getAttribute('href')),
    }
}"""
HEIGHT = "() => Math.max(...[...document.querySelectorAll('.jp-Notebook, .jp-Notebook *')].map(e => e.scrollHeight))"


@contextlib.contextmanager
def server(notebooks=ROOT / "notebooks"):
    """JupyterLab with a copy of some notebooks, beside the committed figures: its address."""
    with tempfile.TemporaryDirectory(prefix="flatdyn-browser-") as folder, socket.socket() as free:
        shutil.copytree(notebooks, Path(folder) / "notebooks")
        for name, text in SETTINGS.items():
            path = Path(folder) / "settings" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
        command += [f"--port={port}", "--ServerApp.token=", "--ServerApp.password=", str(Path(folder) / "notebooks")]
        env = os.environ | {"JUPYTERLAB_SETTINGS_DIR": f"{folder}/settings", "FLATDYN_FIGURES": str(ROOT / "figures")}
        env |= {"PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                yield _answering(f"http://127.0.0.1:{port}", process)
            finally:
                process.terminate()


def _answering(address, process, patience=60):
    for _ in range(patience):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{address}/api", timeout=5).close()
            return address
        if process.poll() is not None:
            break
        time.sleep(1)
    sys.exit("JupyterLab did not start")


def look(browser, address, path, folder):
    """What is wrong with a notebook, as sentences; none if all is well."""
    page = browser.new_page(viewport={"width": 1300, "height": 1700})
    try:
        page.goto(f"{address}/lab/tree/{path.name}?reset", timeout=120_000)
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=120_000)
        page.wait_for_timeout(3000)
        before = page.evaluate(COUNTED)
        photograph(page, folder / f"{path.stem}_opened.png")
        page.get_by_role("menuitem", name="Kernel").first.click()
        page.get_by_text(re.compile("Restart Kernel and Clear Outputs")).first.click()
        page.locator(".jp-Dialog .jp-mod-accept").click()
        page.wait_for_timeout(3000)
        page.get_by_role("menuitem", name="Run", exact=True).first.click()
        page.get_by_text("Run All Cells", exact=True).first.click()
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            page.wait_for_timeout(2000)
            now = page.evaluate(COUNTED)
            if now["errors"] or all(re.fullmatch(r"\[\d+\]:", prompt) for prompt in now["prompts"]):
                break
        photograph(page, folder / f"{path.stem}_run.png")
    finally:
        page.close()
    return list(faults(before, now, path))


def faults(before, now, path):
    """What must be so and is not."""
    for when, seen in (("as opened", before), ("after a run", now)):
        yield from (f"{when}: {error[:200]}" for error in seen["errors"])
        if seen["broken"] or seen["digests"]:
            yield f"{when}: {seen['broken']} pictures are broken, {seen['digests']} digests are seen"
    if not all(re.fullmatch(r"\[\d+\]:", prompt) for prompt in now["prompts"]):
        yield f"not all cells have run: {now['prompts']}"
    owned = len(list((ROOT / "figures").glob(f"{path.stem}*.png")))
    if min(before["figures"], now["figures"]) < 2 * owned:
        yield f"{before['figures']} figures as opened, {now['figures']} after a run; {2 * owned} are expected"
    for link in before["links"]:
        if not (ROOT / "notebooks" / link.split("/")[-1].split("?")[0]).exists():
            yield f"{link} leads nowhere"


def photograph(page, file):
    """The whole notebook, not only the part that is seen."""
    height = page.evaluate(HEIGHT)
    page.set_viewport_size({"width": 1300, "height": min(int(height) + 200, 15_000)})
    page.wait_for_timeout(1000)
    page.screenshot(path=str(file))
    page.set_viewport_size({"width": 1300, "height": 1700})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="notebooks whose name starts so")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "browser", help="where the pictures go")
    chosen = parser.parse_args()
    from playwright.sync_api import sync_playwright

    paths = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    paths = [path for path in paths if not chosen.only or path.name.startswith(tuple(chosen.only))]
    chosen.folder.mkdir(parents=True, exist_ok=True)
    installed = next(filter(None, map(shutil.which, CHROMIUM)), None)  # else Playwright's own, if it was fetched
    wrong = 0
    with server() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        for path in paths:
            sentences = look(browser, address, path, chosen.folder)
            wrong += bool(sentences)
            print(f"{path.stem}: {'; '.join(sentences) or 'well'}", flush=True)
        browser.close()
    print(f"{len(paths) - wrong} of {len(paths)} notebooks are well; pictures in {chosen.folder}")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
