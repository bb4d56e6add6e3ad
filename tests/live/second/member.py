"""A member of a cluster, written from docs/src/wire.md alone.

    member.py NAME CLUSTER SEED INTERVAL_MS VERSIONS

It binds a free port of 127.0.0.1, joins through SEED (an address of IPv4), and prints what happens as a line
of JSON each. Lines on its input are commands: `silence` sends nothing more and answers nothing, `leave` says
goodbye and ends. The end of its input ends it.
"""

import json
import random
import selectors
import socket
import sys
import time

import wire
from wire import encode, mix, name_hash, short, versions_of

LIVE = ("alive", "suspect")
END = {"alive": 0, "suspect": 0, "dead": 1, "left": 2}


def rank(row):
    """Of two rows or notes about one member, the greater one is the later."""
    returns, refutations = row["incarnation"]
    return (row["generation"], returns, END[row["status"]], refutations, row["status"] == "suspect")


def digest(row):
    returns, refutations = row["incarnation"]
    start = row["generation"]
    process = mix(row["id"] ^ ((start << 20 | start >> 44) & wire.MASK))
    said = returns << 33 | refutations << 1 | (row["status"] == "suspect")
    return mix(mix(process ^ said & wire.MASK) ^ row["revision"]) & 0xFFFFFFFF


class Member:
    def __init__(self, name, cluster, seed, interval, versions):
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.bind()
        self.seed, self.interval, self.versions = seed, interval, versions
        self.cluster = name_hash(cluster) & 0xFFFFFFFF
        self.generation = int(time.time() * 1000)
        pairs = [("wire", f"{versions[0]}-{versions[1]}")] if versions != (3, 3) else []
        self.pair, self.part = pairs, [(1, bytes(versions))] if pairs else []
        self.me = {
            "status": "alive",
            "id": name_hash(name),
            "generation": self.generation,
            "incarnation": (0, 0),
            "revision": 1,
            "profile": {
                "role": "monitor",  # It runs no shards.
                "address": self.udp.getsockname(),
                "name": name,
                "zone": "",
                "pairs": [("kind", "python")],
                "groups": [],
                "extension": [],
            },
        }
        self.table = {self.me["id"]: self.me}
        self.unconfirmed = {}  # Rows of processes that have not answered yet.
        self.asked = {}  # Of indirect probes: by number, who asked what.
        self.watched = {}  # By id: the newest stage.
        self.observers, self.lifelines, self.streams = [], {}, {}
        self.is_admitted = self.is_silent = self.has_left = False
        self.join_at, self.join_pause = 0.0, interval / 4
        self.introduced_at = 0.0
        self.begun, self.slot, self.sent, self.number = time.monotonic(), 1, set(), random.getrandbits(32)
        self.logical = (0, time.monotonic())  # The clock of the node that admitted this one, and when it came.

    def bind(self):
        """Takes one free port for datagrams and streams."""
        while True:
            self.udp.bind(("127.0.0.1", 0))
            try:
                self.tcp.bind(self.udp.getsockname())
                break
            except OSError:
                self.udp.close()
                self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tcp.listen()

    # ---- sending ----------------------------------------------------------------------------------

    def version(self):
        """The version in use: the highest that all members have in common."""
        if not self.is_admitted:
            return self.versions[0]
        live = [versions_of(row["profile"])[1] for row in self.table.values() if row["status"] in LIVE and row is not self.me]
        return max(min(live + [self.versions[1]]), self.versions[0])

    def written(self, row, version):
        """A row as this version has it: the range of the own one is a pair in version 3, and a part from 4 on."""
        if row is not self.me:
            profile = row["profile"]
            low, high = versions_of(profile)
            others = [pair for pair in profile["pairs"] if pair[0] != "wire"]
            unknown = [part for part in profile["extension"] if part[0] != 1]
            pair = [("wire", f"{low}-{high}")] if (low, high) != (3, 3) else []
            part = ([(1, bytes((low, high)))] if pair else []) + unknown
        else:
            others, pair, part = row["profile"]["pairs"], self.pair, self.part
        changes = {"pairs": others, "extension": part} if version >= 4 else {"pairs": others + pair, "extension": []}
        return {**row, "profile": {**row["profile"], **changes}}

    def message(self, kind, version=None, rows=(), **fields):
        version = version or self.version()
        if kind == "join":
            clock = int(time.time() * 1000)
        else:
            shown, came = self.logical
            clock = shown + int((time.monotonic() - came) * 1000) if shown else 0
        message = {
            "version": version,
            "kind": kind,
            "cluster": self.cluster,
            "from": self.me["id"],
            "generation": self.generation,
            "clock": clock - self.generation & wire.MASK,
            "rumours": [self.written(row, version) for row in rows],
            **fields,
        }
        if kind == "join":
            message["row"] = self.written(self.me, version)
        return encode(message)

    def send(self, to, kind, version=None, rows=(), **fields):
        if not self.is_silent:
            self.udp.sendto(self.message(kind, version, rows, **fields), tuple(to))

    def send_to(self, node, kind, **fields):
        if node in self.table:
            self.send(self.table[node]["profile"]["address"], kind, **fields)

    def say(self, event, **fields):
        print(json.dumps({"event": event, **fields}), flush=True)

    def others(self):
        return [node for node, row in self.table.items() if row is not self.me and row["status"] in LIVE]

    def gossip_own_row(self):
        others = self.others()
        for node in random.sample(others, min(3, len(others))):
            self.send_to(node, "gossip", rows=[self.me])

    # ---- time -------------------------------------------------------------------------------------

    def handle_timers(self):
        now = time.monotonic()
        if not self.is_admitted and now >= self.join_at:
            self.join_at, self.join_pause = now + self.join_pause, min(self.join_pause * 2, self.interval * 4)
            self.send(self.seed, "join", self.versions[0], token=0)
        if not self.is_admitted:
            return
        while now >= self.begun + self.interval:
            self.begun, self.slot, self.sent = self.begun + self.interval, self.slot + 1, set()
            self.choose_observers()
            for row, _ in list(self.unconfirmed.values()):
                self.probe_unconfirmed(row)
        self.send_heartbeats(now)

    def choose_observers(self):
        gone = [node for node in self.observers if node not in self.others()]
        self.observers = [node for node in self.observers if node not in gone]
        for node in gone:
            self.close_lifeline(node)
        fresh = [node for node in self.others() if node not in self.observers]
        random.shuffle(fresh)
        fresh = fresh[: 5 - len(self.observers)]
        self.observers += fresh
        if fresh:
            self.say("observers", names=[self.table[node]["profile"]["name"] for node in self.observers])
        for node in self.observers:
            if node not in self.lifelines:
                self.open_lifeline(node)

    def send_heartbeats(self, now):
        count = len(self.observers)
        for place, node in enumerate(self.observers):
            turn = 16 * place // count
            if node in self.sent or now < self.begun + self.interval * turn / 16:
                continue
            self.sent.add(node)
            self.send_to(
                node,
                "heartbeat",
                incarnation=self.me["incarnation"],
                stage=16 * self.slot + turn,
                interval=int(self.interval * 1_000_000),
                slept=0,
                health=0,
                flags=int(self.slot % count == place),
                observers=[short(other) for other in self.observers],
            )

    # ---- streams ----------------------------------------------------------------------------------

    def open_lifeline(self, node):
        try:
            stream = socket.create_connection(tuple(self.table[node]["profile"]["address"]), 1)
            hello = self.message("hello")
            stream.sendall(len(hello).to_bytes(2, "big") + hello)
            self.lifelines[node] = stream
        except OSError:
            pass  # It is tried again with the next interval.

    def close_lifeline(self, node):
        stream = self.lifelines.pop(node, None)
        if stream:
            stream.close()

    def handle_frames(self, stream, data):
        """Answers a probe of the connection; all other frames are read and left alone."""
        self.streams[stream] += data
        while len(self.streams[stream]) >= 2:
            length = int.from_bytes(self.streams[stream][:2], "big")
            if len(self.streams[stream]) < 2 + length:
                return
            frame, self.streams[stream] = self.streams[stream][2 : 2 + length], self.streams[stream][2 + length :]
            try:
                message = wire.decode(frame, self.versions)
            except wire.Refused:
                continue
            if message["kind"] == "probe" and not self.is_silent:
                echo = self.echo(message)
                stream.sendall(len(echo).to_bytes(2, "big") + echo)

    # ---- messages ---------------------------------------------------------------------------------

    def echo(self, message):
        is_observer = int(message["from"] in self.observers)
        fields = {"number": message["number"], "incarnation": self.me["incarnation"], "flags": is_observer}
        return self.message("echo", message["version"], **fields)

    def handle_datagram(self, data, source):
        try:
            message = wire.decode(data, self.versions)
        except wire.Refused as refused:
            self.say("dropped", reason=str(refused))
            return
        if message["cluster"] != self.cluster or message["from"] == self.me["id"]:
            return
        kind, known = message["kind"], self.table.get(message["from"])
        is_seed = source == self.seed or any(source == tuple(row["profile"]["address"]) for row in self.table.values())
        if kind in ("challenge", "introduce"):
            if is_seed and (kind == "challenge" or time.monotonic() - self.introduced_at >= 0.02):
                if kind == "introduce":
                    self.introduced_at = time.monotonic()
                self.send(source, "join", self.versions[0], token=message.get("token", 0))
            return
        if kind == "refused":
            self.say("refused", reason=message["reason"], value=message["value"])
            return
        self.confirm(message, source)
        known = self.table.get(message["from"])
        is_of_member = known and known["generation"] == message["generation"] and tuple(known["profile"]["address"]) == source
        if kind == "rows" and message["flags"] & 2 and is_seed:
            self.handle_admission(message)
        elif is_of_member:
            self.take_rows(message)
            known = self.table[message["from"]]
            if known["status"] not in LIVE:
                if kind == "probe":
                    self.udp_echo(message, source)
                return
            self.handle_of_member(message, source)
        elif kind not in ("ack", "echo", "probe report") and self.is_admitted:
            if len(self.message("introduce", message["version"])) <= len(data):
                self.send(source, "introduce", message["version"])

    def udp_echo(self, message, source):
        if not self.is_silent:
            self.udp.sendto(self.echo(message), source)

    def handle_admission(self, message):
        for row in message["rumours"]:
            self.merge(row)
        clock = message["generation"] + message["clock"] & wire.MASK
        self.logical = (clock, time.monotonic())
        if not self.is_admitted:
            self.is_admitted, self.begun = True, time.monotonic()
            whole, more = bool(message["flags"] & 4), bool(message["flags"] & 1)
            self.say("admitted", version=message["version"], whole=whole, more=more)
            self.choose_observers()
        self.answer_rows(message)

    def handle_of_member(self, message, source):
        kind, sender = message["kind"], message["from"]
        if kind == "heartbeat":
            if message["flags"] & 1:
                self.send(source, "ack", stage=message["stage"], health=0)
            if short(self.me["id"]) in message["observers"]:
                if sender not in self.watched:
                    self.say("watches", name=self.table[sender]["profile"]["name"])
                self.watched[sender] = max(message["stage"], self.watched.get(sender, 0))
        elif kind == "ack":
            self.say("acked", name=self.table[sender]["profile"]["name"], version=message["version"])
        elif kind == "probe":
            self.udp_echo(message, source)
        elif kind == "echo":
            for number, (asker, probe) in list(self.asked.items()):
                if probe["target"] == sender and number == message["number"]:
                    self.report(asker, probe, reached=True)
                    del self.asked[number]
        elif kind == "release":
            self.watched.pop(sender, None)
        elif kind == "poll":
            self.send(source, "vote", number=message["number"])
        elif kind == "indirect probe":
            self.handle_indirect_probe(message)
        elif kind == "sync":
            mine = self.digests()
            parts = [part for part in range(64) if mine[part] != message["digests"][part]]
            if parts:
                differing = sum(1 << part for part in parts)
                rows = [self.me] + [row for row in self.table.values() if row is not self.me and row["id"] >> 58 in parts]
                self.send(source, "rows", rows=rows[:8], differing=differing, flags=4)
        elif kind == "rows":
            self.answer_rows(message)

    def digests(self):
        digests = [0] * 64
        for row in self.table.values():
            if row["status"] in LIVE:
                digests[row["id"] >> 58] ^= digest(row)
        return digests

    def answer_rows(self, message):
        """Sends what the sender of rows lacks of the parts that differ."""
        received = {row["id"]: row for row in message["rumours"]}
        form = lambda row: (rank(row), row["revision"])
        lacks = lambda row: row["id"] not in received or form(received[row["id"]]) != form(row)
        is_asked = lambda row: message["differing"] >> (row["id"] >> 58) & 1
        rows = [row for row in self.table.values() if is_asked(row) and lacks(row)]
        if rows:
            self.send_to(message["from"], "rows", rows=rows[:8], differing=0, flags=4)

    def handle_indirect_probe(self, probe):
        target, asker = probe["target"], probe["from"]
        known = self.table.get(target)
        if target == self.me["id"]:
            self.report(asker, probe, reached=True)
        elif known and (known["generation"] != probe["target_generation"] or known["status"] not in LIVE):
            self.send_to(asker, "gossip", rows=[known])
        elif known and not probe["flags"] & 2 and 0 < probe["stage"] <= self.watched.get(target, 0):
            self.report(asker, probe, reached=True)
        elif known:
            self.number = self.number + 1 & 0xFFFFFFFF
            self.asked[self.number] = (asker, probe)
            self.send_to(target, "probe", number=self.number)

    def report(self, asker, probe, reached):
        fields = {name: probe[name] for name in ("number", "target", "target_generation")}
        fields.update(stage=self.watched.get(probe["target"], 0), silence=0, flags=int(reached), health=0)
        self.send_to(asker, "probe report", **fields)

    # ---- the table --------------------------------------------------------------------------------

    def take_rows(self, message):
        for row in message["rumours"]:
            known = self.table.get(row["id"])
            is_new = not known or row["generation"] > known["generation"]
            is_of_sender = (row["id"], row["generation"]) == (message["from"], message["generation"])
            if is_new and "profile" in row and row["status"] in LIVE and not is_of_sender and row["id"] != self.me["id"]:
                self.number = self.number + 1 & 0xFFFFFFFF
                self.unconfirmed[row["id"]] = (row, self.number)
                self.probe_unconfirmed(row)
            else:
                self.merge(row)

    def probe_unconfirmed(self, row):
        low = max(versions_of(row["profile"])[0], self.versions[0])
        number = self.unconfirmed[row["id"]][1]
        self.send(row["profile"]["address"], "probe", low, number=number)

    def confirm(self, message, source):
        row, _ = self.unconfirmed.get(message["from"], (None, 0))
        if row and row["generation"] == message["generation"] and tuple(row["profile"]["address"]) == source:
            del self.unconfirmed[message["from"]]
            self.merge(row)

    def merge(self, row):
        if row["id"] == self.me["id"]:
            return self.refute(row)
        known = self.table.get(row["id"])
        if not known:
            if "profile" in row and name_hash(row["profile"]["name"]) == row["id"]:
                self.table[row["id"]] = row
                self.say("member", name=row["profile"]["name"], status=row["status"], versions=versions_of(row["profile"]))
            return None
        is_news, after = rank(row) > rank(known), dict(known)
        is_same = row["generation"] == known["generation"]
        if "profile" in row and row["profile"]["name"] == known["profile"]["name"]:
            if row["generation"] > known["generation"] or is_same and row["revision"] > known["revision"]:
                after.update(profile=row["profile"], revision=row["revision"])
        elif is_news and not is_same:
            if row["status"] in LIVE:
                return None
            after.update(revision=0)
        if is_news:
            after.update({field: row[field] for field in ("generation", "incarnation", "status")})
            if row["status"] != known["status"] or not is_same:
                self.say("member", name=known["profile"]["name"], status=row["status"], versions=versions_of(after["profile"]))
            if row["status"] not in LIVE:
                self.watched.pop(row["id"], None)
        self.table[row["id"]] = after
        return None

    def refute(self, row):
        """A row or note about this node."""
        if row["generation"] != self.generation or self.has_left:
            if row["generation"] > self.generation:
                self.say("superseded")
            return
        mine, said = self.me["incarnation"], row["incarnation"]
        if row["status"] not in LIVE and said[0] >= mine[0] or said[0] > mine[0]:
            self.me["incarnation"] = (said[0] + 1, 0)
            self.say("declared dead")
        elif row["status"] == "suspect" and said >= mine:
            self.me["incarnation"] = (said[0], said[1] + 1)
            self.say("suspected")
        elif row["status"] == "alive" and said > mine:
            self.me["incarnation"] = said
        if row["revision"] > self.me["revision"]:
            self.me["revision"] = row["revision"] + 1
        if (self.me["incarnation"], self.me["revision"]) != (mine, row["revision"]) and not self.is_silent:
            self.gossip_own_row()

    # ---- commands ---------------------------------------------------------------------------------

    def leave(self):
        self.me["status"], self.has_left = "left", True
        for node in self.observers * 3 + self.others():
            self.send_to(node, "gossip", rows=[self.me])
        for node in list(self.lifelines):
            self.close_lifeline(node)
        self.say("left")

    def run(self):
        selector = selectors.DefaultSelector()
        for source in (self.udp, self.tcp, sys.stdin):
            selector.register(source, selectors.EVENT_READ)
        self.say("started", address="{}:{}".format(*self.udp.getsockname()))
        while not self.has_left:
            self.handle_timers()
            for key, _ in selector.select(self.interval / 16):
                if key.fileobj is self.udp:
                    self.handle_datagram(*self.udp.recvfrom(65536))
                elif key.fileobj is self.tcp:
                    stream, _ = self.tcp.accept()
                    self.streams[stream] = b""
                    selector.register(stream, selectors.EVENT_READ)
                elif key.fileobj is sys.stdin:
                    command = sys.stdin.readline().strip()
                    if not command:
                        return
                    if command == "silence":
                        self.is_silent = True
                        self.say("silent")
                    elif command == "leave":
                        self.leave()
                else:
                    self.read_stream(selector, key.fileobj)

    def read_stream(self, selector, stream):
        try:
            data = stream.recv(65536)
            if data:
                return self.handle_frames(stream, data)
        except OSError:
            pass  # It ends in the same way.
        selector.unregister(stream)
        del self.streams[stream]
        stream.close()
        return None


def main(name, cluster, seed, interval_ms, versions):
    host, port = seed.rsplit(":", 1)
    low, high = versions.split("-")
    Member(name, cluster, (host, int(port)), int(interval_ms) / 1000, (int(low), int(high))).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
