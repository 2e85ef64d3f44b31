"""The explorer in JupyterLab in a real browser: opened, dragged, measured: `make drag`.

    python tests/drag.py [--moves 50] [--drags 500] [--folder SHOTS]

A notebook with one call is opened on the loopback address and run. The start and two sliders are moved, then what the
view reports is compared with what `simulate` and `map_basins` say when they are called directly, in the same kernel.
Printed are the times from the input to the painted frame, the memory before and after many drags, the programs that
were compiled meanwhile, and what the console complained of. Pictures are kept to be looked at.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from browser import CHROMIUM, ROOT, server

CELLS = (
    "import jax\njax.config.update('jax_enable_x64', True)\nimport flatdyn as fd\n"
    "explorer = fd.explore('himmelblau', 'SAM')\nexplorer",
    # What the view has been told, against direct calls; and what was compiled since the last call
    "import json, jax.monitoring, numpy as np\n"
    "compiled = []\n"
    "jax.monitoring.register_event_duration_secs_listener("
    "lambda name, seconds, **_: compiled.append(name) if name.endswith('backend_compile_duration') else None)",
    "explorer.wait()\nprocess, setup = explorer.process, explorer.setup\n"
    "run = fd.simulate(process, list(setup.start), setup.steps, progress=False)\n"
    "basins = fd.map_basins(process, explorer.scene.box, 256, list(explorer.scene.points), max_steps=2000,"
    " progress=False)\n"
    "print(json.dumps({'steps': int(run.steps), 'end': run.final.tolist(), 'compiled': len(compiled),\n"
    "    'shares': {k: v for k, v in basins.fractions().items()}, 'code': explorer.code,\n"
    "    'same': bool((basins.labels == explorer.basins.labels).all() and (run.theta == explorer.run.theta).all())}))",
)
VIEW = "document.querySelector('.flatdyn-explorer').explorer"
LIMITS = {"path": 60, "multipliers": 60, "basins 64": 150, "basins 256": 1000}  # ms, 95th percentile on 2 cores
FIRST = 2500  # ms until the first path of a method


def notebook():
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_code_cell(text) for text in CELLS]
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return made


def run_cell(page, number):
    """Run one cell from its place in the page, and wait for it."""
    page.locator(".jp-Notebook .jp-CodeCell").nth(number).click()
    page.keyboard.press("Control+Enter")
    page.wait_for_function(
        "n => /\\[\\d+\\]/.test(document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')[n].innerText)",
        arg=number,
        timeout=120_000,
    )


def settle(page):
    page.wait_for_function(f"{VIEW}.idle() && {VIEW}.reported.last !== undefined", timeout=60_000)


def drag(page, box, moves, rng):
    """Drag the start over the plane."""
    places = rng.uniform(0.25, 0.75, (moves, 2))
    page.mouse.move(box["x"] + places[0][0] * box["width"], box["y"] + places[0][1] * box["height"])
    page.mouse.down()
    for x, y in places:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.wait_for_timeout(30)
    page.mouse.up()


def slide(page, name, moves, rng, wait=450):
    slider = page.locator(f".flatdyn-explorer input[type=range][name={name}]")
    for share in rng.uniform(0.1, 0.6, moves):
        slider.evaluate(
            "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }", f"{share:.3f}"
        )
        page.wait_for_timeout(wait)


def percentiles(page):
    """Times by kind since the last call, in ms: (number, median, 95th percentile)."""
    timings = page.evaluate(f"{VIEW}.timings.splice(0)")
    kinds = sorted({one["kind"] for one in timings})
    return {k: np.percentile([one["ms"] for one in timings if one["kind"] == k], [50, 95]).round(1) for k in kinds}


def asked(page, number):
    """What the kernel prints in a cell."""
    run_cell(page, number)
    cell = page.locator(".jp-Notebook .jp-CodeCell").nth(number)
    page.wait_for_timeout(500)
    cell.locator(".jp-OutputArea-output pre").last.wait_for(timeout=60_000)
    page.wait_for_timeout(1500)
    return json.loads(cell.locator(".jp-OutputArea-output pre").last.inner_text())


def explore(page, chosen, rng):
    """Everything that is done by hand; yields what is wrong."""
    started = time.monotonic()
    run_cell(page, 0)
    page.wait_for_selector(".flatdyn-explorer canvas.plane", timeout=120_000)
    page.wait_for_function(f"{VIEW}.reported.path !== undefined", timeout=120_000)
    print(f"first path {time.monotonic() - started:.1f} s after the cell began, imports included")
    page.wait_for_function(f"{VIEW}.reported.basins?.shape[0] === 256", timeout=120_000)
    page.locator(".flatdyn-explorer").screenshot(path=str(chosen.folder / "opened.png"))
    run_cell(page, 1)
    plane = page.locator(".flatdyn-explorer canvas.plane")
    plane.scroll_into_view_if_needed()
    for first in ("momentum", "lr"):  # both kinds of state have been met
        slide(page, first, 1, rng, wait=4000)
    before = asked(page, 2)
    percentiles(page)
    drag(page, plane.bounding_box(), chosen.moves, rng)
    settle(page)
    for name in ("lr", "rho"):
        slide(page, name, chosen.moves, rng)
    settle(page)
    times = percentiles(page)
    slide(page, "rho", 6, rng, wait=2500)  # finer maps follow a hand that rests
    times |= {kind: value for kind, value in percentiles(page).items() if kind not in times}
    for kind, (median, high) in times.items():
        limit = LIMITS.get(kind)
        print(f"{kind}: median {median} ms, 95th percentile {high} ms{f', limit {limit}' if limit else ''}")
        if limit and high > limit:
            yield f"{kind} takes {high} ms"
    page.wait_for_timeout(3000)
    after = asked(page, 2)
    reported = page.evaluate(f"{VIEW}.reported")
    print(f"compiled meanwhile: {after['compiled'] - before['compiled']} programs")
    if after["compiled"] != before["compiled"]:
        yield f"{after['compiled'] - before['compiled']} programs were compiled by moves of sliders"
    shares = {n: s for n, s in zip(reported["basins"]["names"], reported["basins"]["shares"], strict=True) if s}
    wanted = {n: s for n, s in after["shares"].items() if s}
    if not after["same"] or shares != wanted:
        yield f"the view says {shares}, map_basins {wanted}"
    if reported["path"]["steps"] != after["steps"] or not np.allclose(
        reported["path"]["end"], after["end"], rtol=1e-12
    ):
        yield f"the view says {reported['path']}, simulate {after}"
    page.locator(".flatdyn-explorer").screenshot(path=str(chosen.folder / "dragged.png"))
    memory = "() => { if (window.gc) gc(); return performance.memory.usedJSHeapSize; }"
    plane.scroll_into_view_if_needed()
    drag(page, plane.bounding_box(), 50, rng)
    page.wait_for_timeout(1000)
    first = page.evaluate(memory)
    drag(page, plane.bounding_box(), chosen.drags, rng)
    page.wait_for_timeout(2000)
    last = page.evaluate(memory)
    print(f"memory {first / 2**20:.1f} MiB, after {chosen.drags} drags {last / 2**20:.1f} MiB")
    if last > 1.1 * first:
        yield f"memory grew by {last / first - 1:.0%}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=50, help="of the start, and of each of two sliders")
    parser.add_argument("--drags", type=int, default=500, help="while memory is watched")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "drag", help="where the pictures go")
    chosen = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chosen.folder.mkdir(parents=True, exist_ok=True)
    installed = next(filter(None, map(shutil.which, CHROMIUM)), None)  # else Playwright's own, if it was fetched
    complaints = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flatdyn-drag-")))
        nbformat.write(notebook(), folder / "explore.ipynb")
        address = stack.enter_context(server(folder))
        playwright = stack.enter_context(sync_playwright())
        options = ["--no-sandbox", "--js-flags=--expose-gc", "--enable-precise-memory-info"]
        browser = playwright.chromium.launch(executable_path=installed, args=options)
        page = browser.new_page(viewport={"width": 1500, "height": 1400})
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.goto(f"{address}/lab/tree/explore.ipynb?reset", timeout=120_000)
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=120_000)
        page.wait_for_timeout(4000)
        quiet = len(complaints)  # JupyterLab's own, before there is an explorer
        wrong = list(explore(page, chosen, np.random.default_rng(0)))
        wrong += complaints[quiet:]
        browser.close()
    print("\n".join(wrong) or "well")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
