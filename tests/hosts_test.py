"""Takt on several hosts, which are network namespaces of this machine: no shared memory between them, and TCP over a
virtual switch. Needs root (or CAP_NET_ADMIN and CAP_SYS_ADMIN); says so and ends with 77 where that is not given.

Run by ctest. By hand: TAKT_BINARY=build/cpu/takt python3 tests/hosts_test.py
"""
import os
import re
import subprocess
import sys
import time
import unittest

from end_to_end_test import DEADLINE_S, MPIEXEC, TAKT, EndToEnd, environment, numbers, wait_until

SKIPPED = 77
NETWORK = "10.77.0"  # inside the namespaces only
# How often TCP sends again before mpirun takes its daemon on another host for lost: 3 times is about 2 s, the kernel's
# default of 15 a quarter of an hour.
TCP_RETRIES = 3
# Instead of ssh: the host is an address, and the command runs in its namespace under its own name.
AGENT = """#!/bin/sh
host=$1; shift
n=${host##*.}
exec ip netns exec @PREFIX@-$n unshare --uts sh -c "hostname @PREFIX@-$n; $*"
"""


def ip(*words, check=True):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=DEADLINE_S)
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def remove(pid):
    """Ends what still runs in the namespaces of test `pid` and removes them; their links go with them."""
    for line in ip("netns", "list").splitlines():
        name = line.split()[0]
        if name.startswith(f"takt-{pid}-"):
            for inside in ip("netns", "pids", name, check=False).split():
                try:
                    os.kill(int(inside), 9)
                except ProcessLookupError:
                    pass
            ip("netns", "del", name)


def remove_leftovers():
    """Of tests that were killed before they could clean up."""
    pids = set(re.findall(r"(?m)^takt-(\d+)-", ip("netns", "list")))
    for pid in pids:
        if not os.path.exists(f"/proc/{pid}"):
            remove(pid)


class Hosts:
    """`num_hosts` namespaces takt-PID-1, ... that are joined by a switch in a namespace of its own."""

    def __init__(self, num_hosts):
        self.prefix = f"takt-{os.getpid()}"
        self.switch = f"{self.prefix}-switch"
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "add", "bridge0", "type", "bridge")
        ip("-n", self.switch, "link", "set", "bridge0", "up")
        for n in range(1, num_hosts + 1):
            self.add(n)

    def name(self, n):
        return f"{self.prefix}-{n}"

    def add(self, n):
        host, port = self.name(n), f"port{n}"
        ip("netns", "add", host)
        ip("link", "add", "eth0", "netns", host, "type", "veth", "peer", "name", port, "netns", self.switch)
        ip("-n", self.switch, "link", "set", port, "master", "bridge0", "up")
        ip("-n", host, "addr", "add", f"{NETWORK}.{n}/24", "dev", "eth0")
        for link in ("eth0", "lo"):
            ip("-n", host, "link", "set", link, "up")
        setting = f"net.ipv4.tcp_retries2={TCP_RETRIES}"
        ip("netns", "exec", host, "sysctl", "-q", "-w", setting)

    def cut(self, n):
        ip("-n", self.name(n), "link", "set", "eth0", "down")


class OnHosts(EndToEnd):
    def set_up_hosts(self, num_hosts, ranks_a_host):
        self.addCleanup(remove, os.getpid())  # also if adding them fails half-way
        hosts = Hosts(num_hosts)
        agent = self.dir / "agent.sh"
        agent.write_text(AGENT.replace("@PREFIX@", hosts.prefix))
        agent.chmod(0o755)
        lines = [f"{NETWORK}.{n} slots={ranks_a_host}\n" for n in range(1, num_hosts + 1)]
        (self.dir / "hosts").write_text("".join(lines))
        return hosts

    def start_on(self, hosts, ranks, *words):
        network = f"{NETWORK}.0/24"
        settings = {"plm_rsh_agent": str(self.dir / "agent.sh"), "btl": "self,vader,tcp", "btl_tcp_if_include": network,
                    "oob_tcp_if_include": network, "mpi_yield_when_idle": "1", "hwloc_base_binding_policy": "none"}
        mca = [word for name, value in settings.items() for word in ("--mca", name, value)]
        mpirun = [MPIEXEC, "--hostfile", "hosts", "-np", str(ranks), "--wdir", str(self.dir), *mca, TAKT, *words]
        enter = ["ip", "netns", "exec", hosts.name(1), "unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"',
                 hosts.name(1)]
        process = subprocess.Popen([*enter, *mpirun], cwd=self.dir, env=environment(), text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(self.end, process)
        return process

    def check_hosts(self, num_hosts, ranks_a_host):
        ranks = num_hosts * ranks_a_host
        mesh = (ranks // 2, 2)
        same_host = self.train(f"one-host-{ranks}", "--steps", "10", mesh=mesh)
        hosts = self.set_up_hosts(num_hosts, ranks_a_host)
        out = f"hosts-{num_hosts}"
        done = self.finish(self.start_on(hosts, ranks, *self.words(out, "--steps", "10", mesh=mesh)))
        self.assertEqual(done.code, 0, done)
        self.assertIn(f"{num_hosts} hosts", done.out)
        self.assertEqual(numbers(self.dir / out), numbers(same_host), "every bit, wherever the ranks are")

    def test_two_hosts_give_the_losses_of_one(self):
        self.check_hosts(2, 2)

    def test_four_hosts_give_the_losses_of_one(self):
        self.check_hosts(4, 1)

    def test_a_host_without_network_ends_the_run_and_is_named(self):
        hosts = self.set_up_hosts(2, 1)
        words = self.words("cut", "--steps", "1000000", "--set", "guard.hang_timeout=3s", mesh=(2, 1))
        process = self.start_on(hosts, 2, *words)
        file = self.dir / "cut/metrics.jsonl"
        wait_until(lambda: file.exists() and file.read_text().count("\n") >= 3, "step 3")
        hosts.cut(2)
        start = time.monotonic()
        done = self.finish(process)
        self.assertEqual(done.code, 79, done)
        self.assertRegex(done.err, rf"error: rank 0 \({hosts.name(1)}\): no answer from rank 1 \({hosts.name(2)}\)")
        self.assertLess(time.monotonic() - start, 40, done)


def why_not():
    """What this machine does not allow; empty if all is there."""
    probe = f"takt-{os.getpid()}-probe"
    try:
        ip("netns", "add", probe)
        ip("netns", "exec", probe, "unshare", "--uts", "hostname", probe)
        remove_leftovers()
        return ""
    except (OSError, RuntimeError) as error:
        return str(error)
    finally:
        try:
            remove(os.getpid())
        except (OSError, RuntimeError):
            pass


if __name__ == "__main__":
    reason = why_not()
    if reason:
        print(f"skipped: hosts need network namespaces, which this machine does not allow ({reason})")
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
