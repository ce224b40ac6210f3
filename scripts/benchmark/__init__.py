"""What scripts/bench is made of: preparing, systems, workloads, running, reporting."""
