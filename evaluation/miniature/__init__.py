"""The paper's claim judged on the drawn world, where the truth is known."""
