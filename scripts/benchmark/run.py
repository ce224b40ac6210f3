"""Running the workloads, round robin over the systems."""

import os
import subprocess
import sys
import time

from . import systems, workloads

#: Above whatever else runs on the machine: with any ordinary priority each request would wait for somebody's time slice.
PRIORITY = os.sched_param(1)


def all_rounds(chosen, phases, sizes, rounds, cores, place, source, programs):
    """Answers {"cores", "seconds": {workload: {system: [seconds of each round]}}, "memory": {system: bytes}, "cpu": ...}."""
    before, policy, priority = os.sched_getaffinity(0), os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_RR, PRIORITY)
    if cores == "one":
        os.sched_setaffinity(0, {min(before)})
    seconds = {phase.name: {name: [] for name in chosen} for phase in phases if phase.title}
    usage = {"memory": {}, "cpu": {}}
    rows = workloads.rows(place, sizes["rows"])
    try:
        for number in range(rounds):
            turn = place / f"round-{number}-{cores}"
            mounts = []
            try:
                for name in chosen:
                    mounts.append(systems.ALL[name](name, turn, programs))
                one_round(mounts, phases, sizes, source, rows, programs, seconds, number, rounds, cores)
            finally:
                for mount in mounts:
                    mount.unmount()
            for mount in mounts:
                usage["memory"][mount.name] = max(mount.peak, usage["memory"].get(mount.name, 0))
                usage["cpu"][mount.name] = usage["cpu"].get(mount.name, 0) + mount.cpu / rounds
            subprocess.run(["rm", "-rf", "--one-file-system", turn], check=True)
    finally:
        os.sched_setaffinity(0, before)
        os.sched_setscheduler(0, policy, priority)
    return {"cores": cores, "rounds": rounds, "seconds": seconds, **usage}


def one_round(mounts, phases, sizes, source, rows, programs, seconds, number, rounds, cores):
    for index, phase in enumerate(phases):
        # Nobody is always first.
        shift = (number + index) % len(mounts)
        for mount in mounts[shift:] + mounts[:shift]:
            if not mount.can(phase, sizes):
                continue
            if phase.cold:
                mount.remount()
            if phase.warm:
                once(phase, mount, sizes, source, rows, programs)
            took = once(phase, mount, sizes, source, rows, programs)
            if phase.title:
                seconds[phase.name][mount.name].append(took)
        if phase.title:
            line = "  ".join(f"{name} {times[-1]:.3f}" for name, times in seconds[phase.name].items() if times)
            print(f"round {number + 1}/{rounds}, {cores} core(s), {phase.name}: {line}", file=sys.stderr, flush=True)


def once(phase, mount, sizes, source, rows, programs):
    if phase.size:
        name = workloads.PROGRAM.get(phase.name, phase.name)
        command = [programs["workload"], name, mount.area, str(sizes[phase.size])]
        return float(checked(command, mount, phase))
    command = ["sh", "-c", phase.command.format(source=source, rows=rows)]
    began = time.monotonic()
    checked(command, mount, phase)
    return time.monotonic() - began


def checked(command, mount, phase):
    done = subprocess.run([str(part) for part in command], cwd=mount.area, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise SystemExit(f"scripts/bench: {mount.name}, {phase.name}: exit {done.returncode}: {done.stderr}")
    return done.stdout
