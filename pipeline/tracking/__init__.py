"""MLflow: runs, trials, models and versions. Nothing here uses MLflow's active run."""
