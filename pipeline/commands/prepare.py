"""The first stage: rows on disk, and what they are in MLflow."""

from pipeline.commands.job import Job
from pipeline.report import descriptions
from pipeline.tracking.runs import Run


def record(job: Job, parent: Run) -> None:
    """Log the prepared parts as a child of the pipeline's run, in the run that was cut short if
    there is one."""
    parts, schema = job.parts, job.parts.schema
    before = job.store.child(parent, "prepare")
    resume = before if before is not None and before.info.status != "FINISHED" else None
    with job.stage("prepare", job.table, resume, parent) as run:
        run.inputs((job.data_set("train"), "training"), (job.data_set("test"), "testing"))
        digests = {f"{name}.sha256": parts.digests[name] for name in ("source", "train", "test")}
        labels = ", ".join(map(str, schema.labels))
        run.params({"parts": parts.directory.name, **digests, "labels": labels})
        rows = {"rows": sum(parts.rows.values())}
        rows |= {f"rows_{subset}": count for subset, count in parts.rows.items()}
        if any(parts.groups.values()):
            rows |= {f"groups_{subset}": count for subset, count in parts.groups.items()}
        width = {"columns": len(schema.columns), "columns_left_out": len(parts.left_out)}
        if schema.inputs is not None:
            width = {"numbers_per_row": schema.width}
        run.metrics({**rows, **width, "labels": schema.classes})
        run.tags({"prepare.reused": str(parts.reused).lower()})
        run.file(parts.schema_path)
        unit = "group" if job.config.validation.groups else "moment"
        run.describe(descriptions.prepare_description(parts, unit))
