"""Many searches under one run: every configuration with every combination of settings, several at
a time, and what they say together."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.analysis.across import Across, Searched, across
from pipeline.analysis.common_rate import CommonRate, common_rates
from pipeline.analysis.evidence import Evidence
from pipeline.commands import sweep_worker
from pipeline.commands.final_round import FILE as EVIDENCE
from pipeline.common.addresses import masked
from pipeline.common.errors import RunError, UserError, refuse
from pipeline.common.files import file_digest
from pipeline.common.text import count, duration
from pipeline.config import Config
from pipeline.config.variants import Variant
from pipeline.models.metrics import Metric, metric_of
from pipeline.report import descriptions
from pipeline.report import overview as words
from pipeline.report.console import Console
from pipeline.report.descriptions import markdown, markdown_table
from pipeline.tracking.runs import Run
from pipeline.tracking.store import FINISHED, Store
from pipeline.tracking.trials import trials_of

KEY = "sweep.search"
"""The tag of a pipeline's run that says which of the sweep's searches it is."""

SUMMARY = "sweep.json"


@dataclass(frozen=True)
class Outcome:
    """What became of one search: the pipeline's run, or why there is none, and all warnings."""

    variant: Variant
    run_id: str = ""
    problem: str = ""
    warnings: Sequence[str] = ()


def sweep(variants: Sequence[Variant], experiment: str, jobs: int) -> int:
    """Run every search that has not finished yet, `jobs` at a time, each as `run_all` does it, and
    compare the optimizers over all of them; how many searches failed.

    A search that fails is named, the others go on. Started again, a sweep goes on in its run.

    Raises UserError: no search at a time, or searches that cannot be compared, for their objectives
    differ or they have no final round."""
    if jobs < 1:
        raise UserError(f"--jobs: must be at least 1; got {jobs}")
    metric = _metric(variants)
    store, console = Store.open(experiment, launched="sweep"), Console()
    keys = {_key(variant.config): variant for variant in variants}
    fingerprint = _digest("".join(sorted(keys)))
    with store.lease(fingerprint):
        before = store.latest("sweep", fingerprint)
        again = before.info.run_id if before is not None else None
        name = f"sweep · {count(len(keys), 'search', 'searches')}"
        with store.run("sweep", name, fingerprint=fingerprint, resume=again) as run:
            done = dict(_finished(store, run, keys))
            if done:
                console.say(f"{count(len(done), 'search', 'searches')} had finished before.")
            left = {key: variant for key, variant in keys.items() if key not in done}
            failed = []
            with closing(_searches(left, store, run, jobs)) as outcomes:
                told = _progress(console, len(keys), len(done))
                for key, outcome in outcomes:
                    told(outcome)
                    if outcome.problem:
                        failed.append(outcome)
                        continue
                    store.client.set_tag(outcome.run_id, KEY, key)
                    done[key] = outcome
            if not done:
                raise RunError("no search of the sweep finished")
            searched = _told_apart([_read(store, each) for _, each in sorted(done.items())])
            _conclude(store, run, console, searched, failed, metric)
    return len(failed)


def _metric(variants: Sequence[Variant]) -> Metric:
    objectives = {variant.config.search.objective: variant for variant in variants}
    texts = [f"{name} ({each.name})" for name, each in objectives.items()]
    if len(texts) > 1:
        raise UserError(
            f"search.objective: must be one for the whole sweep; got {', '.join(texts)}"
        )
    refuse(
        [
            f"{each.name}: validation.final: must not be null in a sweep, which compares by it"
            for each in variants
            if each.config.validation.final is None
        ]
    )
    return metric_of(variants[0].config)


def _key(config: Config) -> str:
    """Which search it is: the configuration, and the files that it names as they are now."""
    plain: dict[str, Any] = config.to_plain()
    del plain["compute"], plain["experiment"], plain["tracking"]
    names = [config.data.source, config.data.test]
    files = [Path(name).expanduser() for name in names if isinstance(name, str)]
    digests = [file_digest(file) for file in files if file.is_file()]
    text = json.dumps([plain, digests], sort_keys=True, default=str)
    return _digest(text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _finished(store: Store, run: Run, keys: Mapping[str, Variant]) -> Iterator[tuple[str, Outcome]]:
    under = f"tags.`mlflow.parentRunId` = '{run.run_id}'"
    for each in store.search(under, "tags.`pipeline.stage` = 'pipeline'", FINISHED):
        if (key := each.data.tags.get(KEY)) in keys:
            yield key, Outcome(keys[key], each.info.run_id)


def _progress(console: Console, total: int, done: int) -> Callable[[Outcome], None]:
    """A line for each search that ends, with an estimate by those before it."""
    started, ended = console.clock(), 0

    def told(outcome: Outcome) -> None:
        nonlocal ended
        ended += 1
        rest = (total - done - ended) * (console.clock() - started) / ended
        name = f"{done + ended} of {total} · {outcome.variant.name}"
        for warning in outcome.warnings:
            console.warn(f"{name}: {warning}")
        if outcome.problem:
            console.warn(f"{name}: {outcome.problem}")
        else:
            console.say(f"{name} · about {duration(rest)} to go" if rest else name)

    return told


def _searches(
    left: Mapping[str, Variant], store: Store, run: Run, jobs: int
) -> Generator[tuple[str, Outcome]]:
    """The outcomes as they come, of processes that work on one search at a time each."""
    with (
        sweep_worker.workers(store.uri, min(jobs, max(1, len(left)))) as perform,
        ThreadPoolExecutor(jobs) as pool,
    ):
        futures: dict[Future[sweep_worker.Performed], str] = {}
        for key, variant in left.items():
            config = variant.config.model_copy(update={"experiment": store.experiment})
            futures[pool.submit(perform, config, run.run_id)] = key
        try:
            for future in as_completed(futures):
                key = futures[future]
                yield key, Outcome(left[key], *future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            sweep_worker.stop()
            raise


def _read(store: Store, outcome: Outcome) -> Searched:
    """A finished search as the store has it."""
    run = Run(store.client, outcome.run_id, store.experiment_id, "pipeline", "")
    train, prepared = store.child(run, "train"), store.child(run, "prepare")
    assert train is not None
    assert prepared is not None
    text = store.needed(train.info.run_id, EVIDENCE)
    return Searched(
        train.data.tags["data.table"],
        f"{prepared.data.params['source.sha256']} {outcome.variant.config.data.target}",
        outcome.run_id,
        outcome.variant.settings,
        int(prepared.data.metrics["rows_train"]),
        int(prepared.data.metrics["labels"]),
        Evidence.from_plain(json.loads(text), metric_of(outcome.variant.config)),
        trials_of(store, train.info.run_id),
    )


def _told_apart(searched: Sequence[Searched]) -> list[Searched]:
    """Tables of one name that are not the same rows and label get a part of their digest."""
    of_name: dict[str, set[str]] = {}
    for each in searched:
        of_name.setdefault(each.table, set()).add(each.rows_and_label)
    return [
        each
        if len(of_name[each.table]) == 1
        else replace(each, table=f"{each.table} {_digest(each.rows_and_label)[:6]}")
        for each in searched
    ]


def _conclude(
    store: Store,
    run: Run,
    console: Console,
    searched: Sequence[Searched],
    failed: Sequence[Outcome],
    metric: Metric,
) -> None:
    """Numbers, words and the page on the sweep's run, the answer on the console."""
    compared, rates = across(searched, metric), common_rates(searched, metric)
    tables = {
        "optimizers": words.optimizer_table(compared, rates),
        "pairs": words.pair_table(compared),
        "tables": words.score_table(compared),
    }
    answer = words.answer(compared, rates, len(searched))
    problems = [f"{each.variant.name}: {each.problem}" for each in failed]
    run.metrics({"searches": len(searched), "failed": len(failed), "tables": len(compared.scores)})
    run.tags({"optimizer.winner": compared.winner or ""})
    content = _content(compared, rates, searched) | {"answer": answer, "failed": problems}
    run.text(json.dumps(content, indent=1, allow_nan=False), SUMMARY)
    for name, table in tables.items():
        run.text(words.csv_text(table), f"{name}.csv")
    run.text(words.page(compared, rates, searched, answer, problems, _address(store)), "sweep.html")
    described = [f"**{markdown(answer[0])}** {markdown(' '.join(answer[1:]))}"]
    described += [markdown_table(table) for name, table in tables.items() if name != "tables"]
    about = "\n\n".join([*described, *(f"**Failed:** {markdown(p)}" for p in problems)])
    run.describe(about)
    store.describe(about, descriptions.links({"This sweep": run.link}))
    console.closing(tables["optimizers"], answer, [])


def _content(
    compared: Across, rates: Sequence[CommonRate], searched: Sequence[Searched]
) -> dict[str, Any]:
    """What `sweep.json` holds beside the answer."""
    pairs = [asdict(pair) | {"is_clear": pair.is_clear} for pair in compared.pairs]
    searches = [
        {"table": each.table, "run_id": each.run_id, "settings": dict(each.settings),
         "training_rows": each.rows, "labels": each.labels}
        for each in searched
    ]  # fmt: skip
    content = {
        "objective": compared.metric.curve,
        "winner": compared.winner,
        "scores": compared.scores,
        "ranks": asdict(compared.ranks) if compared.ranks is not None else None,
        "pairs": pairs,
        "rates": list(map(asdict, rates)),
        "searches": searches,
    }
    return {key: _plain(value) for key, value in content.items()}


def _plain(value: Any) -> Any:
    """Lists and numbers for JSON, which has no NaN."""
    if isinstance(value, Mapping):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return [_plain(child) for child in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _address(store: Store) -> str:
    """Where a server shows the runs; "" for a store that is no server."""
    if not store.uri.startswith("http"):
        return ""
    return f"{masked(store.uri).rstrip('/')}/#/experiments/{store.experiment_id}/runs"


def default_jobs() -> int:
    """As many searches at a time as there are cores for this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
