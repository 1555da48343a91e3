# SPDX-License-Identifier: GPL-2.0
"""`make demo`: phttpd on plain sockets and on a stack port, driven by wrk in alternation.

Prints a table, draws build/demo.svg and build/demo.png, and writes every turn to build/demo.json.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vm"))

import vm as vmlib  # noqa: E402
from server import Server  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--servers", default="epoll,stack")
parser.add_argument("--connections", default="1,10,50,100")
parser.add_argument("--pairs", type=int, default=5, help="turns of each server and number of connections")
parser.add_argument("--seconds", type=int, default=3, help="length of a turn")
parser.add_argument("--count", metavar="QEMU", help="count instructions too, with this QEMU (see scripts/counter)")
options = parser.parse_args()

KINDS = options.servers.split(",")
CONNECTIONS = [int(number) for number in options.connections.split(",")]
START = time.monotonic()


def say(text):
    """A line of progress with the seconds since the start."""
    print(f"[{time.monotonic() - START:4.0f} s] {text}", flush=True)


def start(counting=None):
    """One machine per server, all paused."""
    servers = {}
    for kind in KINDS:
        say(f"booting the machine of the {kind} server" + (" (counting)" if counting else ""))
        servers[kind] = Server(kind, counting)
        servers[kind].pause()
    return servers


def measured(servers, connections, seconds, kinds):
    """One turn of each server, in the order of `kinds`."""
    turns = {}
    for kind in kinds:
        servers[kind].resume()
        turns[kind] = servers[kind].turn(connections, seconds)
        servers[kind].pause()
    return turns


def rows():
    """Every turn as an object of build/demo.json."""
    made = []
    servers = start()
    release = servers[KINDS[0]].vm.release
    say(f"Linux {release}, {'KVM' if vmlib.accelerator() == 'kvm' else 'emulated CPU (no KVM here)'}, one vCPU, e1000; "
        f"{options.pairs} pairs of {options.seconds} s turns")
    for kind in KINDS:  # warm caches, translated code and TCP's own measurements
        measured(servers, 10, 1, [kind])
    for connections in CONNECTIONS:
        for pair in range(options.pairs):
            # Who comes first alternates too.
            turns = measured(servers, connections, options.seconds, KINDS if pair % 2 == 0 else KINDS[::-1])
            for kind in KINDS:
                turn = turns[kind]
                made.append({
                    "workload": "rpc", "server": kind, "nic": "e1000", "connections": connections, "pair": pair,
                    "rps": round(turn.rps, 1), "latency_mean_us": round(turn.latency_mean_us, 1),
                    "latency_p99_us": round(turn.latency_p99_us, 1),
                    "cpu_us_per_request": round(turn.cpu_us_per_request, 2), "instructions_per_request": None,
                })
            say(f"{connections:3} connections, pair {pair + 1}: "
                + ", ".join(f"{kind} {turns[kind].rps:,.0f} requests/s" for kind in KINDS))
    for server in servers.values():
        server.close()
    if options.count:
        count(made)
    return made


def count(made):
    """Fills in instructions per request: they hardly vary, so one turn for each server and number of connections is enough."""
    servers = start(options.count)
    for connections in CONNECTIONS:
        measured(servers, connections, 1, KINDS)
        turns = measured(servers, connections, options.seconds, KINDS)
        for kind, turn in turns.items():
            total = turn.instructions_user + turn.instructions_kernel
            say(f"{connections:3} connections: {kind} {total:,.0f} instructions per request "
                f"({turn.instructions_user:,.0f} user, {turn.instructions_kernel:,.0f} kernel)")
            for row in made:
                if row["server"] == kind and row["connections"] == connections:
                    row["instructions_per_request"] = round(total)
    for server in servers.values():
        server.close()


def pick(made, kind, connections, key):
    """Values of one figure over the pairs."""
    return [row[key] for row in made if row["server"] == kind and row["connections"] == connections]


def ratios(made, connections):
    """stack/epoll of requests per second, pair by pair."""
    return [b / a for a, b in zip(pick(made, "epoll", connections, "rps"), pick(made, "stack", connections, "rps"))]


def table(made):
    """The figures as text: medians over the pairs."""
    print()
    print(f"{'connections':>11} {'server':>7} {'requests/s':>11} {'mean us':>9} {'p99 us':>9} {'CPU us/request':>15} "
          f"{'instructions':>13}  ratio (min - max)")
    for connections in CONNECTIONS:
        for kind in KINDS:
            values = {key: statistics.median(pick(made, kind, connections, key))
                      for key in ("rps", "latency_mean_us", "latency_p99_us", "cpu_us_per_request")}
            counted = pick(made, kind, connections, "instructions_per_request")[0]
            each = ratios(made, connections) if kind == "stack" and "epoll" in KINDS else []
            ratio = f"{statistics.median(each):.2f} ({min(each):.2f} - {max(each):.2f})" if each else ""
            print(f"{connections:11} {kind:>7} {values['rps']:11,.0f} {values['latency_mean_us']:9,.0f} "
                  f"{values['latency_p99_us']:9,.0f} {values['cpu_us_per_request']:15.1f} "
                  f"{counted if counted is not None else '-':>13}  {ratio}")
    print("\nMedians over the pairs; ratio: requests/s of stack to epoll, pair by pair.")


def draw(made, base):
    """The same as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figures = [("rps", "requests per second"), ("latency_mean_us", "mean latency, us"),
               ("latency_p99_us", "99th percentile of latency, us"), ("cpu_us_per_request", "CPU per request, us")]
    if any(row["instructions_per_request"] for row in made):
        figures.append(("instructions_per_request", "guest instructions per request"))
    figure, axes = pyplot.subplots(1, len(figures), figsize=(4 * len(figures), 4), layout="constrained")
    width = 0.8 / len(KINDS)
    for axis, (key, title) in zip(axes, figures):
        for number, kind in enumerate(KINDS):
            values = [pick(made, kind, connections, key) for connections in CONNECTIONS]
            middle = [statistics.median(each) for each in values]
            spread = [[m - min(each) for m, each in zip(middle, values)], [max(each) - m for m, each in zip(middle, values)]]
            places = [place + (number - (len(KINDS) - 1) / 2) * width for place in range(len(CONNECTIONS))]
            axis.bar(places, middle, width, yerr=spread, capsize=3, label=kind)
        axis.set_title(title)
        axis.set_xlabel("connections")
        axis.set_xticks(range(len(CONNECTIONS)), CONNECTIONS)
        axis.grid(axis="y", alpha=0.3)
    axes[0].legend()
    figure.suptitle("phttpd, 64-byte answers, e1000, one vCPU: plain sockets (epoll) and stack port")
    figure.savefig(f"{base}.svg")
    figure.savefig(f"{base}.png", dpi=100)


def main():
    """Measures, then shows it in three forms."""
    base = vmlib.TOP / "build/demo"
    try:
        made = rows()
    except vmlib.VMError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        print("demo: interrupted")
        sys.exit(130)
    Path(f"{base}.json").write_text(json.dumps(made, indent=1) + "\n")
    table(made)
    draw(made, base)
    print(f"Also as a picture, build/{base.name}.svg and .png, and turn by turn in build/{base.name}.json.")


main()
