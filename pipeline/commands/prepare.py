"""The first stage: rows on disk, and what they are in MLflow."""

from pipeline.commands.job import Job
from pipeline.report import descriptions
from pipeline.tracking.runs import Run


def record(job: Job, parent: Run) -> None:
    """Log the prepared parts as a child of the pipeline's run, in the run that was cut short if
    there is one."""
    parts = job.parts
    name = f"prepare · {job.table}"
    before = job.store.child(parent, "prepare")
    is_cut_short = before is not None and before.info.status != "FINISHED"
    resume = before.info.run_id if before is not None and is_cut_short else None
    with job.store.run(
        "prepare", name, parent=parent, fingerprint=job.fingerprint, resume=resume
    ) as run:
        run.inputs((job.data_set("train"), "training"), (job.data_set("test"), "testing"))
        run.params(
            {
                "parts": parts.directory.name,
                "source.sha256": parts.digests["source"],
                "train.sha256": parts.digests["train"],
                "test.sha256": parts.digests["test"],
                "labels": ", ".join(map(str, parts.schema.labels)),
            }
        )
        run.metrics(
            {
                "rows": parts.rows["train"] + parts.rows["test"],
                "rows_train": parts.rows["train"],
                "rows_test": parts.rows["test"],
                "columns": len(parts.schema.columns),
                "columns_left_out": len(parts.left_out),
                "labels": parts.schema.classes,
            }
        )
        run.tags({"prepare.reused": str(parts.reused).lower()})
        run.file(parts.schema_path)
        run.describe(descriptions.prepare_description(parts))
