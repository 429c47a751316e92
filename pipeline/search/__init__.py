"""Which trials to run: batches asked of Optuna, and what became of them told back."""
