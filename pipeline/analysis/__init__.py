"""Numbers from trials and predictions: no MLflow, and no words."""
