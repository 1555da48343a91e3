# SPDX-License-Identifier: GPL-2.0
"""`make demo`: phttpd on plain sockets and on a stack port, driven by wrk in alternation.

Two workloads: RPC, and a write-ahead log (WAL) that keeps each request's body in emulated persistent memory before it
answers. Prints tables, draws build/demo.svg and build/demo.png, and writes every turn to build/demo.json.
"""

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vm"))

import vm as vmlib  # noqa: E402
from server import WORKLOADS, Server  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--servers", default="epoll,stack-copy,stack",
                    help="the others are compared with the first; epoll-each: commits each request by itself; uring: io_uring")
parser.add_argument("--workloads", default="rpc,wal,wal+10us")
parser.add_argument("--nic", default="e1000", help="as vm.VM knows it")
parser.add_argument("--queues", type=int, default=1, help="of the NIC; as many threads and vCPUs")
parser.add_argument("--connections", default="1,10,50,100")
parser.add_argument("--stored-connections", default="1,50,100", help="for the WAL")
parser.add_argument("--pairs", type=int, default=5, help="turns of each server and number of connections")
parser.add_argument("--seconds", type=int, default=1, help="length of a turn")
parser.add_argument("--count", metavar="QEMU", help="count instructions too, with this QEMU (see scripts/counter)")
parser.add_argument("--only-count", action="store_true", help="nothing else")
options = parser.parse_args()

CHOSEN = options.workloads.split(",")
PLACE = f"{options.nic}, " + ("one vCPU" if options.queues == 1 else f"{options.queues} queues and vCPUs")
STORED = [workload for workload in CHOSEN if WORKLOADS.get(workload, (None,))[0] is not None]
START = time.monotonic()
TITLES = {"rpc": "RPC: GET of 44 bytes", "post": "POST of 1024 bytes, not stored", "upload": "POST of 65,404 bytes, not stored",
          "wal": "WAL: POST of 1024 bytes, stored",
          "wal+10us": "WAL, 10 us more per flush"}


def servers_of(workload):
    """Who takes part: bodies that are not stored need not be copied either."""
    kinds = options.servers.split(",")
    return [kind for kind in kinds if workload in STORED or kind not in ("stack-copy", "epoll-each")]


def connections_of(workload):
    """Numbers of connections."""
    text = options.stored_connections if workload in STORED else options.connections
    return [int(number) for number in text.split(",")]


def say(text):
    """A line of progress with the seconds since the start."""
    print(f"[{time.monotonic() - START:4.0f} s] {text}", flush=True)


def boot(kind, counting):
    """One machine with its server paused."""
    first = next(workload for workload in CHOSEN if kind in servers_of(workload))
    server = Server(kind, counting, workload=first, stores=bool(STORED), nic=options.nic, queues=options.queues)
    server.pause()
    return server


def start(counting=None):
    """One machine per server, all paused."""
    kinds = list(dict.fromkeys(kind for workload in CHOSEN for kind in servers_of(workload)))
    say(f"booting {len(kinds)} machines" + (", counting ones" if counting else "") + f": {', '.join(kinds)}")
    with ThreadPoolExecutor() as pool:
        return dict(zip(kinds, pool.map(lambda kind: boot(kind, counting), kinds)))


def serve(servers, workload):
    """Lets all servers that take part run for this workload, and pauses them."""
    for kind in servers_of(workload):
        server = servers[kind]
        if server.workload == workload:
            server.resume()
        else:
            server.serve(workload)
        server.warm_up()
        server.pause()


def measured(servers, connections, seconds, kinds):
    """One turn of each server, in the order of `kinds`."""
    turns = {}
    for kind in kinds:
        servers[kind].resume()
        turns[kind] = servers[kind].turn(connections, seconds)
        servers[kind].pause()
    return turns


def row(workload, kind, connections, pair, turn):
    """An object of build/demo.json."""
    return {
        "workload": workload, "server": kind, "nic": options.nic, "queues": options.queues,
        "connections": connections, "pair": pair,
        "rps": round(turn.rps, 1), "latency_mean_us": round(turn.latency_mean_us, 1),
        "latency_p99_us": round(turn.latency_p99_us, 1),
        "cpu_us_per_request": round(turn.cpu_us_per_request, 2), "instructions_per_request": None,
    }


def rows():
    """Every turn as an object of build/demo.json."""
    made = []
    servers = start()
    release = next(iter(servers.values())).vm.release
    say(f"Linux {release}, {'KVM' if vmlib.accelerator() == 'kvm' else 'emulated CPU (no KVM here)'}, {PLACE}; "
        f"{options.pairs} turns of each server")
    for workload in CHOSEN:
        serve(servers, workload)
        kinds = servers_of(workload)
        for connections in connections_of(workload):
            for pair in range(options.pairs):
                # Who comes first alternates too.
                turns = measured(servers, connections, options.seconds, kinds if pair % 2 == 0 else kinds[::-1])
                made += [row(workload, kind, connections, pair, turns[kind]) for kind in kinds]
            middle = {kind: statistics.median(pick(made, workload, kind, connections, "rps")) for kind in kinds}
            say(f"{workload}, {connections:3} connections: "
                + ", ".join(f"{kind} {rps:,.0f} requests/s" for kind, rps in middle.items()))
    for server in servers.values():
        server.close()
    return made


def count(made):
    """Fills in instructions per request: they hardly vary, so one turn for each server and number of connections is enough."""
    servers = start(options.count)
    for workload in CHOSEN:
        serve(servers, workload)
        kinds = servers_of(workload)
        for connections in connections_of(workload):
            measured(servers, connections, 1, kinds)
            turns = measured(servers, connections, options.seconds, kinds)
            for kind, turn in turns.items():
                if options.only_count:
                    made.append(row(workload, kind, connections, 0, turn))
                total = turn.instructions_user + turn.instructions_kernel
                say(f"{workload}, {connections:3} connections: {kind} {total:,.0f} instructions per request "
                    f"({turn.instructions_user:,.0f} user, {turn.instructions_kernel:,.0f} kernel)")
                for each in made:
                    if (each["workload"], each["server"], each["connections"]) == (workload, kind, connections):
                        each["instructions_per_request"] = round(total)
    for server in servers.values():
        server.close()


def pick(made, workload, kind, connections, key):
    """Values of one figure over the pairs."""
    return [row[key] for row in made if (row["workload"], row["server"], row["connections"]) == (workload, kind, connections)]


def ratios(made, workload, kind, connections):
    """A server's requests per second to those of the first one, pair by pair."""
    first = servers_of(workload)[0]
    if kind == first:
        return []
    base = pick(made, workload, first, connections, "rps")
    return [b / a for a, b in zip(base, pick(made, workload, kind, connections, "rps"))]


def table(made, workload):
    """The figures as text: medians over the pairs."""
    print(f"\n{TITLES[workload]}")
    print(f"{'connections':>11} {'server':>10} {'requests/s':>11} {'mean us':>9} {'p99 us':>9} {'CPU us/request':>15} "
          f"{'instructions':>13}  ratio (min - max)")
    for connections in connections_of(workload):
        for kind in servers_of(workload):
            values = {key: statistics.median(pick(made, workload, kind, connections, key))
                      for key in ("rps", "latency_mean_us", "latency_p99_us", "cpu_us_per_request")}
            counted = pick(made, workload, kind, connections, "instructions_per_request")[0]
            each = ratios(made, workload, kind, connections)
            ratio = f"{statistics.median(each):.2f} ({min(each):.2f} - {max(each):.2f})" if each else ""
            print(f"{connections:11} {kind:>10} {values['rps']:11,.0f} {values['latency_mean_us']:9,.0f} "
                  f"{values['latency_p99_us']:9,.0f} {values['cpu_us_per_request']:15.1f} "
                  f"{counted if counted is not None else '-':>13}  {ratio}")


def bars(axis, made, workload, key):
    """One figure of one workload."""
    kinds, numbers = servers_of(workload), connections_of(workload)
    width = 0.8 / len(kinds)
    for number, kind in enumerate(kinds):
        values = [pick(made, workload, kind, connections, key) for connections in numbers]
        middle = [statistics.median(each) for each in values]
        spread = [[m - min(each) for m, each in zip(middle, values)], [max(each) - m for m, each in zip(middle, values)]]
        places = [place + (number - (len(kinds) - 1) / 2) * width for place in range(len(numbers))]
        axis.bar(places, middle, width, yerr=spread, capsize=3, label=kind)
    axis.set_xlabel("connections")
    axis.set_xticks(range(len(numbers)), numbers)
    axis.grid(axis="y", alpha=0.3)


def draw(made, base):
    """The same as a picture, a row for each workload."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figures = [("rps", "requests per second"), ("latency_mean_us", "mean latency, us"),
               ("latency_p99_us", "99th percentile of latency, us"), ("cpu_us_per_request", "CPU per request, us")]
    if any(each["instructions_per_request"] for each in made):
        figures.append(("instructions_per_request", "guest instructions per request"))
    figure, axes = pyplot.subplots(len(CHOSEN), len(figures), figsize=(4 * len(figures), 3.5 * len(CHOSEN)),
                                   layout="constrained", squeeze=False)
    for line, workload in zip(axes, CHOSEN):
        for axis, (key, title) in zip(line, figures):
            bars(axis, made, workload, key)
            axis.set_title(title)
        line[0].set_ylabel(TITLES[workload])
        line[0].legend()
    sockets = ", ".join(kind for kind in options.servers.split(",") if not kind.startswith("stack"))
    figure.suptitle(f"phttpd, 64-byte answers, {PLACE}: plain sockets ({sockets}) and stack port")
    figure.savefig(f"{base}.svg")
    figure.savefig(f"{base}.png", dpi=100)


def main():
    """Measures, then shows it in three forms."""
    base = vmlib.TOP / "build/demo"
    unknown = [workload for workload in CHOSEN if workload not in WORKLOADS]
    if unknown or (options.only_count and not options.count):
        parser.error(f"unknown workloads: {unknown}" if unknown else "--only-count needs --count")
    try:
        made = [] if options.only_count else rows()
        if options.count:
            count(made)
    except vmlib.VMError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        print("demo: interrupted")
        sys.exit(130)
    Path(f"{base}.json").write_text(json.dumps(made, indent=1) + "\n")
    for workload in CHOSEN:
        table(made, workload)
    print("\nMedians over the pairs; ratio: requests/s to those of the first server, pair by pair.")
    draw(made, base)
    print(f"Also as a picture, build/{base.name}.svg and .png, and turn by turn in build/{base.name}.json.")


main()
