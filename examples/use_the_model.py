# %% [markdown]
# # From a table to a model that explains itself
#
# Run this in the project's folder, as a script or cell by cell (VS Code, Jupyter with jupytext):
# it trains on a table that comes with scikit-learn, loads the registered champion, predicts, and
# asks which columns the model relies on.

# %%
import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow import MlflowClient
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import log_loss

import pipeline

# %% [markdown]
# ## Train
#
# One call: a search over optimizers and learning rates, tracked in MLflow, and the best model
# registered. Asked again, a finished search trains nothing.

# %%
overrides = {"search.trials": 8, "training.epochs": 40, "experiment": "use-the-model"}
result = pipeline.run("configs/default.yaml", overrides)
print(result)

# %% [markdown]
# ## Load and predict
#
# The model takes raw rows: columns by name, in any order, gaps allowed. Elsewhere
# `mlflow.pyfunc.load_model("models:/use-the-model@champion")` gives it.

# %%
model = result.model

table = load_breast_cancer(as_frame=True)
rows, malignant = table.data, table.target_names[table.target] == "malignant"
few = rows.sample(5, random_state=0)
few.iloc[0, 3] = None
print(model.predict(few))

# %% [markdown]
# A stricter boundary, where a false alarm costs more than a miss:

# %%
print(model.predict(few, params={"threshold": 0.9}))

# %% [markdown]
# ## Where did it come from?

# %%
name, number = result.model_uri.split("/")[1:]
version = MlflowClient().get_model_version(name, number)
print(version.description)
print("from run", version.run_id, "of the search", result.run_id)

# %% [markdown]
# ## Which columns does it rely on?
#
# Permutation importance: how much worse the log loss is when one column is shuffled, so that it
# tells nothing any more. Most of these rows were in training, so this says what the model uses,
# not how well it does on new rows.


# %%
def loss(frame: pd.DataFrame) -> float:
    """The mean log loss of the model's probabilities."""
    return float(log_loss(malignant, model.predict(frame)["probability"].astype(float)))


generator = np.random.default_rng(0)
baseline = loss(rows)
importance = {
    name: np.mean(
        [loss(rows.assign(**{name: generator.permutation(rows[name])})) for _ in range(3)]
    )
    - baseline
    for name in rows.columns
}
print(pd.Series(importance).sort_values(ascending=False).head(8).round(4))

# %% [markdown]
# ## Train it further
#
# The bare module is an ordinary `torch.nn.Module` from raw rows to probabilities, with the
# preprocessing inside.

# %%
module = mlflow.pytorch.load_model(result.model_uri)
raw = torch.tensor(rows.to_numpy(), dtype=torch.float64)
y = torch.tensor(malignant).long()  # 1 is the positive label
optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
for step in range(5):
    optimizer.zero_grad()
    step_loss = torch.nn.functional.nll_loss(module(raw).clamp(min=1e-7).log(), y)
    step_loss.backward()
    optimizer.step()
    print(f"step {step}: loss {step_loss.item():.5f}")
