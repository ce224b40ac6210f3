"""Running programs."""

import subprocess


def sh(*command, **options):
    """Runs a command; on failure its output is shown."""
    options.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        raise SystemExit(f"scripts/bench: {' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}")
    return done.stdout
