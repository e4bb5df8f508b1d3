"""The claim, judged on the drawn world, whose truth is known."""
