"""Where the benchmark collections lie."""

import os
import pathlib
import sys


def data_folder() -> pathlib.Path | None:
    """The folder named by POUNCE_BENCH_DATA, or ``../shared/data`` beside the checkout; None if there is none."""
    here = pathlib.Path(__file__).resolve().parent.parent
    folder = pathlib.Path(os.environ.get("POUNCE_BENCH_DATA", here.parent / "shared" / "data"))
    return folder if folder.is_dir() else None


def nlp_problems():
    """The module that serves the NLP collection, or None."""
    folder = data_folder()
    if folder is None or not (folder / "nlp" / "problems.py").is_file():
        return None
    sys.path.insert(0, str(folder / "nlp"))
    import problems

    return problems


def load_problem(problems, name: str):
    """A problem of the collection; one that has no reference gets an empty row of figures."""
    problems._rows.setdefault(name, dict.fromkeys(next(iter(problems._rows.values())), ""))
    return problems.load(name)
