"""A run's folder: out/name/digest, found, opened by one run or shared by several, and asked for the shards that it lacks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from reds_core.errors import OutputError, RedsError, SpecError
from reds_core.runs.manifest import Manifest, finished_seeds, indices, is_intact, read_manifest
from reds_core.runs.plan import counting, plan
from reds_core.spec.digest import digest
from reds_core.spec.fields import Spec
from reds_core.spec.load import dump, load_spec
from reds_core.storage.folder import PART, Folder
from reds_core.storage.local import LocalFolder
from reds_core.storage.places import on_disk
from reds_core.words import counted

PAGE_NAMES = ("report.html", "README.md", "samples.parquet", "croissant.json")  # the last describes the one before
MOST_NAMED = 5  # runs, where a folder is not one but holds some
ALL = range(2**40)  # more shards than any run has


def run_folder(spec: Spec, out: Folder) -> Folder:
    """Returns the folder that a run of this spec lives in: out/name/digest."""
    return out / spec.name / digest(spec)


def run_folders(out: Folder) -> list[Folder]:
    """Returns the runs two levels below a folder, or the folder itself if it is one."""
    if "spec.yaml" in out.files():
        return [out]
    return [run for spec in out.folders() for run in spec.folders() if "spec.yaml" in run.files()]


def spec_in(folder: Folder, here: LocalFolder) -> Spec:
    """Returns the spec of a run's folder, of which `here` holds the small files.

    Raises:
        OutputError: the folder is not a run; names the runs one or two levels below it.
    """
    try:
        return load_spec(here.path / "spec.yaml")
    except RedsError as error:
        is_there = here.size("spec.yaml") is not None
        below = [] if is_there else _below(folder)
        if not below:
            why = str(error).replace(str(here), str(folder)) if is_there else "it has no spec.yaml"
            raise OutputError(f"{folder} is not a run: {why}") from error
        named = [f"  {run}" for run in below[:MOST_NAMED]]
        if len(below) > MOST_NAMED:
            named.append(f"  and {len(below) - MOST_NAMED:,} more")
        message = f"{folder} is not a run, but holds {counted(len(below), 'run')}; name one of them:"
        raise OutputError("\n".join([message, *named])) from error


def _below(folder: Folder) -> list[Folder]:
    """Returns the runs one or two levels below a folder that is not one, by name."""
    one = [run for run in folder.folders() if "spec.yaml" in run.files()]
    return sorted(one or run_folders(folder), key=str)


@contextlib.contextmanager
def opened(spec: Spec, out: Folder, shards: range | None = None, fresh: bool = False) -> Iterator[Folder]:
    """Gives the run's folder, created, and cleared of what a killed run left behind; if `fresh`, of all shards.

    Args:
        spec: of the run.
        out: the folder of all runs.
        shards: those that this run will write; all, if None or `fresh`. On a disk they are locked: other runs may write others.
        fresh: whether to start anew.

    Raises:
        OutputError: it cannot be written.
        RunError: another run is writing to it.
    """
    folder = run_folder(spec, out)
    mine = ALL if shards is None or fresh else shards
    with contextlib.ExitStack() as stack:
        with folder.opening():
            is_alone = stack.enter_context(folder.locked(mine))
            with folder.spec_locked():
                # Another run may be writing the pages: making a report of many shards takes minutes, and this one need not wait.
                with folder.pages_locked(wait=fresh) as has_pages:
                    if fresh:
                        folder.remove(*(name for name in folder.names() if _is_of_a_run(name)))
                    if is_alone:
                        folder.remove(*_unfinished(folder, mine, has_pages))
                folder.write("spec.yaml", dump(_longest(spec, folder)).encode())
        yield folder


def pending(folder: Folder, spec: Spec, among: range | None = None) -> list[int]:
    """Returns the shards of the plan, or those `among` it, that are missing, damaged, or shorter than planned.

    On a disk every finished shard is read. Of a folder in a store the manifests are read and compared with one listing.
    """
    with on_disk(folder, ".json") as here:
        sizes, planned = folder.files(), plan(spec)
        wanted = range(len(planned)) if among is None else among
        return [index for index in wanted if not _is_finished(folder, sizes, read_manifest(here, index), planned[index])]


def made_meanwhile(folder: Folder, spec: Spec, index: int) -> Manifest | None:
    """Returns the manifest of a shard that another run has finished since `pending` looked, if one has."""
    found = read_manifest(folder, index)
    if found is None or found.seeds < len(plan(spec)[index]):
        return None
    return found if is_intact(folder, {name: folder.size(name) for _, name, _, _ in found.files()}, found) else None


def grown(spec: Spec, out: Folder) -> Spec:
    """Returns the spec with more seeds than its folder holds: the next `seeds.count` of them, once all before are finished.

    Raises:
        SpecError: it starts from own images, which are as many as they are.
    """
    if spec.seeds.images is not None:
        raise SpecError("grow", ["new seeds are made from a generator alone; own images are as many as they are"], parameter="grow")
    folder = run_folder(spec, out)
    longest = _longest(spec, folder)
    if folder.read("spec.yaml") is None or pending(folder, longest):
        return longest
    return counting(longest, longest.seeds.number + spec.seeds.number)


def _is_finished(folder: Folder, sizes: dict[str, int], manifest: Manifest | None, planned: range) -> bool:
    return manifest is not None and manifest.seeds >= len(planned) and is_intact(folder, sizes, manifest)


def _is_of_a_run(name: str) -> bool:
    """Returns whether a file of this name is one that a run writes into its folder."""
    return name in ("spec.yaml", *PAGE_NAMES) or bool(indices([name]))


def _unfinished(folder: Folder, mine: range, has_pages: bool) -> list[str]:
    """Returns what a killed run left of these shards: files that were being written, and tars and tables without a manifest.

    If nobody writes the pages (`has_pages`), also what is left of those.
    """
    finished, found = indices(folder.files(), "json"), []
    for file in folder.names():
        name = file.removeprefix(PART)
        shards = indices([name])
        ours = any(index in mine for index in shards)
        if (ours or (has_pages and not shards)) if name != file else (ours and shards[0] not in finished):
            found.append(file)
    return found


def _longest(spec: Spec, folder: Folder) -> Spec:
    """Returns the spec with as many seeds as are asked for, or as the folder holds: a smaller run deletes nothing.

    What was once asked for does not count: a mistyped number would stay for ever.
    """
    return counting(spec, max(spec.seeds.number, finished_seeds(folder, spec.seeds.first)))
