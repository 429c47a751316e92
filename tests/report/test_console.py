import io
import os
import pty

import pytest

from pipeline.analysis.ranking import summarize
from pipeline.common.errors import UserError
from pipeline.report.console import Console
from tests.study import NASTY, StandInTrial, failed, search


class _Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def streams():
    return io.StringIO(), io.StringIO()


def test_errors_and_warnings_go_to_stderr_one_line_each(streams):
    output, errors = streams
    console = Console(output, errors)
    console.error(UserError(["a.yaml:3: x must be", f"column {NASTY}\x1b[31m\nb"]))
    console.error("plain")
    console.warn("slow [bold]disk[/bold] :smile:")
    assert output.getvalue() == ""
    assert errors.getvalue().splitlines() == [
        "error: a.yaml:3: x must be",
        f"error: column {NASTY}\\x1b[31m\\nb",
        "error: plain",
        "warning: slow [bold]disk[/bold] :smile:",
    ]


def test_plain_progress_speaks_at_most_every_interval_and_at_the_end(streams):
    output, errors = streams
    clock = _Clock()
    console = Console(output, errors, interval=5, clock=clock)
    with console.search(40) as progress:
        for start in range(0, 40, 4):
            clock.now += 2
            progress.update(
                [StandInTrial(start, "Adam", 0.003, accuracy=0.6 + start / 1000)]
                + [failed(start + i) for i in range(1, 4)]
            )
    assert output.getvalue().splitlines() == [
        "4 of 40 trials, best 60.0 % (Adam, lr 0.003), about 18 s left",
        "16 of 40 trials, best 61.2 % (Adam, lr 0.003), about 12 s left",
        "28 of 40 trials, best 62.4 % (Adam, lr 0.003), about 6.0 s left",
        "40 of 40 trials, best 63.6 % (Adam, lr 0.003), took 20 s",
    ]


def test_progress_of_a_resumed_search(streams):
    clock = _Clock()
    with Console(*streams, clock=clock).search(4, "val_loss", [StandInTrial(0)]) as progress:
        clock.now = 2
        progress.update([StandInTrial(1, "SGD", loss=0.5)])
    assert streams[0].getvalue().splitlines() == [
        "1 of 4 trials are there from an earlier start, best loss 0.6 (Adam, lr 0.01)",
        "2 of 4 trials, best loss 0.5 (SGD, lr 0.01), about 4.0 s left",
    ]


def test_progress_without_a_completed_trial(streams):
    with Console(*streams).search(1) as progress:
        progress.update([failed(0)])
    assert streams[0].getvalue().startswith("1 of 1 trial, took ")


def test_closing_holds_table_answer_and_commands(streams):
    trials = search((NASTY, "SGD"), 20)
    summaries = summarize(trials)
    Console(*streams).closing(
        summaries, ["SGD did best [red].[/red]"], [("Open", "mlflow ui"), ("Load", "a\nb")]
    )
    lines = streams[0].getvalue().splitlines()
    head = next(line for line in lines if line.startswith("Optimizer"))
    assert "Best accuracy" in head
    assert "Median accuracy" in head
    assert "Best lr" in head
    for item in summaries:
        row = next(line for line in lines if line.startswith(item.optimizer[:14]))
        assert f"{100 * item.accuracy:.1f} %" in row
        assert f"{100 * item.median_accuracy:.1f} %" in row
        assert str(item.trials) in row.split()
    assert "SGD did best [red].[/red]" in lines
    assert lines[-6:] == ["Open:", "  mlflow ui", "", "Load:", "  a", "  b"]
    assert max(map(len, lines)) <= 80


def test_failed_and_pruned_have_columns_only_when_there_are_some(streams):
    Console(*streams).optimizers(summarize([StandInTrial(0)]), "val_loss")
    text = streams[0].getvalue()
    assert "Failed" not in text
    assert "Median loss" in text


def test_a_stream_that_cannot_write_everything():
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, encoding="ascii")
    console = Console(output, output)
    console.closing(summarize([StandInTrial(0, "Größe"), failed(1)]), ["± 1 日本"], [])
    with console.search(1) as progress:
        progress.update([StandInTrial(0, "日本")])
    output.flush()
    text = raw.getvalue().decode("ascii")
    assert "+/- 1 \\u65e5\\u672c" in text
    assert "Gr\\xf6\\xdfe" in text


def test_on_a_terminal_the_bar_goes_when_interrupted(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    main, side = pty.openpty()
    with open(side, "w") as terminal:
        console = Console(terminal, terminal)
        assert console.is_terminal

        def interrupted():
            with console.search(4) as progress:
                progress.update([StandInTrial(0, "[red]Adam[/red]"), StandInTrial(1)])
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
    assert "2/4" in text
    assert "[red]Adam[/red]" in text
    assert "between [b]x[/b]" in text
    assert text.rstrip().endswith("stopped")
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is shown again


def test_a_reader_that_goes_does_not_end_the_search():
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        console = Console(pipe, pipe)
        with console.search(2) as progress:
            progress.update([StandInTrial(0)])
        console.closing(summarize([StandInTrial(0)]), ["done"], [])
        console.error("too late")
