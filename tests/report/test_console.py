import io
import os
import pty
import subprocess
import sys
from contextlib import suppress
from types import SimpleNamespace

import pytest

from pipeline.models.metrics import ACCURACY, LOSS
from pipeline.report.console import Console, FinalProgress, SearchProgress
from pipeline.report.report import Report
from pipeline.report.tables import Table, optimizer_table
from tests.study import NASTY, failed, search, study_evidence, study_facts, trial


class _Clock:
    now = 0.0

    def __call__(self):
        return self.now


def _table(trials, metric=ACCURACY):
    return optimizer_table(Report(study_facts(metric=metric), trials))


@pytest.fixture
def streams():
    return io.StringIO(), io.StringIO()


def test_warnings_go_to_stderr_one_line_each(streams):
    output, errors = streams
    console = Console(output, errors)
    console.warn(f"column {NASTY}\x1b[31m\nb")
    console.warn("slow [bold]disk[/bold] :smile:")
    assert output.getvalue() == ""
    assert errors.getvalue().splitlines() == [
        f"warning: column {NASTY}\\x1b[31m\\nb",
        "warning: slow [bold]disk[/bold] :smile:",
    ]


def _stack(count, epochs=50):
    training = SimpleNamespace(training=SimpleNamespace(epochs=epochs))
    return [SimpleNamespace(settings=training) for _ in range(count)]


def test_plain_progress_speaks_at_most_every_interval_and_at_the_end(streams):
    """Writing is what takes long: four trials at once, then two seconds for them."""
    clock = _Clock()
    with SearchProgress(Console(*streams, interval=5, clock=clock), 40, ACCURACY) as progress:
        for start in range(0, 40, 4):
            epochs = progress.watching()(_stack(4), range(4))
            for epoch in (1, 2):
                epochs(epoch, {}, ())
            progress.trained()
            for number in range(start, start + 4):
                clock.now += 0.5
                scored = trial(number, "Adam", 0.003, accuracy=0.6 + start / 1000)
                progress.written(failed(number) if number % 4 else scored, 0.5)
    assert streams[0].getvalue().splitlines() == [
        "10 of 40 trials, best accuracy 60.8 % (Adam, lr 0.003), about 15 s left",
        "20 of 40 trials, best accuracy 61.6 % (Adam, lr 0.003), about 10 s left",
        "30 of 40 trials, best accuracy 62.8 % (Adam, lr 0.003), about 5.0 s left",
        "40 of 40 trials, best accuracy 63.6 % (Adam, lr 0.003), took 20 s",
    ]


def test_progress_by_epochs(streams):
    """Compiling takes a minute, and networks stop after twenty of fifty epochs, a second each."""
    clock = _Clock()
    console = Console(*streams, interval=10, clock=clock)
    with SearchProgress(console, 16, ACCURACY) as progress:
        asked = []
        for start in (0, 8):
            pruning = lambda *given: asked.append(given) or [given[0]]  # noqa: E731
            epochs = progress.watching(lambda *_, pruning=pruning: pruning)(_stack(8), range(8))
            clock.now += 60 if start == 0 else 0
            for epoch in range(1, 21):
                clock.now += 1
                assert epochs(epoch, {}, ()) == [epoch]
            progress.trained()
            for number in range(start, start + 8):
                progress.written(trial(number), 0.0)
    assert len(asked) == 40
    first, *lines = streams[0].getvalue().splitlines()
    assert first == "0 of 16 trials, the next at epoch 1 of at most 50"
    assert lines == [
        "0 of 16 trials, the next at epoch 11 of at most 50, up to 1 min 30 s left",
        "8 of 16 trials, the next at epoch 1 of at most 50, best accuracy 70.0 % "
        "(Adam, lr 0.01), about 20 s left",
        "8 of 16 trials, the next at epoch 11 of at most 50, best accuracy 70.0 % "
        "(Adam, lr 0.01), about 10 s left",
        "16 of 16 trials, best accuracy 70.0 % (Adam, lr 0.01), took 1 min 40 s",
    ]


def test_lines_come_further_and_further_apart(streams):
    clock = _Clock()
    with FinalProgress(Console(*streams, clock=clock), 5) as progress:
        epochs = progress.watching()(_stack(5, 3600), range(5))
        for epoch in range(1, 3601):
            clock.now += 1
            epochs(epoch, {}, ())
    lines = streams[0].getvalue().splitlines()
    assert lines[0].endswith("0 of 5 optimizers, epoch 5 of at most 3600, up to 59 min 56 s left")
    assert len(lines) < 60


def test_progress_of_a_final_round_elsewhere(streams):
    clock = _Clock()
    with FinalProgress(Console(*streams, interval=10, clock=clock), 3) as progress:
        for _ in range(3):
            clock.now += 12
            progress.trained(is_here=False)
    assert streams[0].getvalue().splitlines() == [
        "final round: 1 of 3 optimizers",
        "final round: 2 of 3 optimizers",
        "final round: 3 of 3 optimizers",
    ]


def test_progress_of_a_resumed_search(streams):
    clock = _Clock()
    with SearchProgress(Console(*streams, clock=clock), 4, LOSS, [trial(0)]) as progress:
        clock.now = 6
        progress.written(trial(1, "SGD", loss=0.5))
        progress.written(trial(2, "SGD", loss=0.6))
        progress.written(trial(3, "SGD", loss=0.6))
    assert streams[0].getvalue().splitlines() == [
        "1 of 4 trials is there from an earlier start, best loss 0.6 (Adam, lr 0.01)",
        "2 of 4 trials, best loss 0.5 (SGD, lr 0.01)",
        "4 of 4 trials, best loss 0.5 (SGD, lr 0.01), took 6.0 s",
    ]


def test_progress_without_a_completed_trial(streams):
    with SearchProgress(Console(*streams), 1, ACCURACY) as progress:
        progress.written(failed(0))
    assert streams[0].getvalue().startswith("1 of 1 trial, took ")


def test_an_interrupted_search_has_no_last_line(streams):
    progress = SearchProgress(Console(*streams), 1, ACCURACY)
    with suppress(KeyboardInterrupt), progress:
        progress.written(trial(0))
        raise KeyboardInterrupt
    assert streams[0].getvalue() == ""


def test_closing_holds_table_answer_and_commands(streams):
    table = _table(search((NASTY, "SGD"), 20))
    Console(*streams).closing(
        table, ["SGD did best [red].[/red]"], [("Open", "mlflow ui"), ("Load", "a\nb")]
    )
    lines = streams[0].getvalue().splitlines()
    for heading in ("Optimizer", "Accuracy", "search", "Learning", "Trials", "Failed"):
        assert any(heading in line for line in lines)
    for row in table.records():
        line = next(line for line in lines if line.startswith(row["Optimizer"][:14]))
        for heading in ("Accuracy in the search", "Learning rate", "Trials"):
            assert row[heading] in line
    assert "SGD did best [red].[/red]" in lines
    assert lines[-6:] == ["Open:", "  mlflow ui", "", "Load:", "  a", "  b"]
    assert max(map(len, lines)) <= 80


def test_the_table_of_a_final_round_fits_a_terminal(streams):
    evidence = study_evidence({"SGD": 0.7, "Adagrad": 0.66, "RMSprop": 0.66, "Adam": None})
    trials = [trial for trial in search() if trial.state != "PRUNED"]
    Console(*streams).closing(
        optimizer_table(Report(study_facts(), trials, None, evidence)), [], []
    )
    lines = streams[0].getvalue().splitlines()
    assert any("interval" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_numbers_stand_to_the_right_below_headings_of_their_width(streams):
    items = [("[b]x[/b]", "1"), ("y", "22")]
    table = Table.of(items, {"Name": lambda i: i[0], "In all": lambda i: i[1]})
    Console(*streams).table(table)
    assert streams[0].getvalue().splitlines() == [
        "           In",
        "Name      all",
        "─────────────",
        "[b]x[/b]    1",
        "y          22",
    ]


def test_failed_and_pruned_have_columns_only_when_there_are_some(streams):
    Console(*streams).closing(_table([trial(0)], LOSS), [], [])
    text = streams[0].getvalue()
    assert "Failed" not in text
    assert "Loss" in text


def test_a_stream_that_cannot_write_everything():
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, encoding="ascii")
    console = Console(output, output)
    console.closing(_table([trial(0, "Größe" * 9), failed(1)]), ["± 1 日本"], [])
    with SearchProgress(console, 1, ACCURACY) as progress:
        progress.written(trial(0, "日本"))
    output.flush()
    text = raw.getvalue().decode("ascii")
    assert "\\xb1 1 \\u65e5\\u672c" in text
    assert "Gr\\xf6\\xdfe" in text


def test_on_a_terminal_the_bar_goes_when_interrupted(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    main, side = pty.openpty()
    with open(side, "w") as terminal:
        console = Console(terminal, terminal)
        assert console.is_terminal

        def interrupted():
            with SearchProgress(console, 4, ACCURACY) as progress:
                progress.written(trial(0, "[red]Adam[/red]"))
                progress.written(trial(1))
                console.warn("between [b]x[/b]")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        console.say("stopped")
        received = b""
        while b"stopped" not in received:
            received += os.read(main, 4096)
        text = received.decode()
    os.close(main)
    assert "2 of 4" in text
    assert "[red]Adam[/red]" in text
    assert "between [b]x[/b]" in text
    assert text.rstrip().endswith("stopped")
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is shown again


def test_a_reader_that_goes_does_not_end_the_search():
    program = """
import time
from pipeline.report.console import Console
from pipeline.report.tables import Table
print("first", flush=True)
time.sleep(1)
console = Console()
for n in range(3):
    console.say(str(n))
console.table(Table.of(["a"], {"A": str}))
print("done", file=__import__("sys").stderr)
"""
    command = f"{sys.executable} -c '{program}' | head -n 1; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("first\n", "done\n", 0)


def test_a_reader_of_warnings_that_goes_takes_no_results_with_it(tmp_path, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with (tmp_path / "answer").open("w") as output, open(write, "w") as errors:
        monkeypatch.setattr(sys, "stdout", output)
        console = Console(None, errors)
        console.warn("nobody reads this")
        console.say("the answer")
    assert (tmp_path / "answer").read_text() == "the answer\n"
