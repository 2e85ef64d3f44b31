"""How nbval compares: by the rule of flatdyn/notebook/agreement.py; stderr does not count.

Plain nbval would call a last printed digit that another processor rounds otherwise a regression. Where the error of a
number is taken from a few runs it is uncertain itself: a cell with the tag `runs-3` says that three runs are behind
each of its numbers, and Student's and Fisher's distributions say what they may do.
"""

import os

os.environ.setdefault("FLATDYN_PROGRESS", "0")
# Tests run side by side, one per core: threads of the linear algebra would only wait for each other, spinning.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def texts(outputs):
    """The places of all texts among a cell's outputs, by kind: {kind: [(dictionary, key), ...]}."""
    places = {}
    for output in outputs:
        if "text" in output:
            places.setdefault(output["name"], []).append((output, "text"))
        for kind, content in output.get("data", {}).items():
            if isinstance(content, str):
                places.setdefault(kind, []).append((output["data"], kind))
    return places


def pytest_configure(config):
    if not config.pluginmanager.hasplugin("nbval"):
        return
    from nbval import plugin

    compare = plugin.IPyNbCell.compare_outputs

    def compare_with_tolerance(self, test, ref, skip_compare=None):
        from flatdyn.notebook.agreement import allowed, runs_behind, same_text  # after tests/conftest.py has set up JAX

        stored, limit = texts(ref), allowed(runs_behind(self.cell))
        for kind, places in texts(test).items():
            for (new, key), (old, old_key) in zip(places, stored.get(kind, []), strict=False):
                if same_text(old[old_key], new[key], limit):
                    new[key] = old[old_key]
        return compare(self, test, ref, skip_compare=skip_compare)

    plugin.IPyNbCell.compare_outputs = compare_with_tolerance


def pytest_collectstart(collector):
    if type(collector).__name__ == "IPyNbFile":
        collector.skip_compare += ("stderr",)
