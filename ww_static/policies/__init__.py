"""Who decides what a finding means: the policy of a run, suppressions, a baseline, and the gate that they make."""
