"""The wire format, versions 3 and 4, written from docs/src/wire.md alone.

`decode` makes a dictionary of a datagram, and `encode` makes the datagram of it again. Run as a
program, it does both with each line of the files that it is given, and compares the bytes.
"""

import ipaddress
import sys

MASK = (1 << 64) - 1
STAGE_MAX = (1 << 48) - 1
TIME_MAX = (1 << 53) - 1
PART_MAX = (1 << 31) - 1
WORD_MAX = (1 << 32) - 1
DATAGRAM_BYTES_MAX = 1200

STATUSES = ["alive", "suspect", "dead", "left"]
KINDS = [
    "heartbeat", "ack", "probe", "echo", "indirect probe", "probe report", "release", "join", "challenge", "introduce",
    "sync", "rows", "gossip", "hello", "poll", "vote", "ask", "part", "kept", "refused",
]


class Refused(Exception):
    """The datagram is dropped as a whole."""


def mix(value):
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


def name_hash(name):
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 & MASK
    return mix(value)


def short(node):
    return node >> 32


class Reader:
    def __init__(self, data, version):
        self.data, self.at, self.version = data, 0, version

    def take(self, count):
        if self.at + count > len(self.data):
            raise Refused("ends within a field")
        self.at += count
        return self.data[self.at - count : self.at]

    def rest(self):
        return len(self.data) - self.at

    def number(self, width):
        return int.from_bytes(self.take(width), "little")

    def byte(self):
        return self.take(1)[0]

    def varint(self, most=MASK):
        value = 0
        for place in range(10):
            byte = self.byte()
            if place == 9 and byte > 1:
                raise Refused("varint")
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                if value > most:
                    raise Refused("a number is over its end")
                return value
        raise Refused("varint")

    def text(self, most=255, least=0):
        length = self.byte()
        if not least <= length <= most:
            raise Refused("length of a text")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise Refused("not UTF-8") from None

    def flags(self, known):
        flags = self.byte()
        if self.version < 4 and flags & ~known:
            raise Refused("flags")
        return flags & known

    def incarnation(self):
        return (self.varint(PART_MAX), self.varint(PART_MAX))

    def address(self):
        family = self.byte()
        if family not in (4, 6):
            raise Refused("family")
        ip = ipaddress.ip_address(self.take(4 if family == 4 else 16))
        return (str(ip), self.number(2))

    def index(self):
        return self.varint(65535)

    def declined(self):
        tag = self.byte()
        if tag >= 128:
            shift, length = tag - 128, self.number(2)
            if shift > 16 or not 1 <= length <= 384:
                raise Refused("declined")
            return {"shift": shift, "bits": self.take(length)}
        ranges, last = [], 0
        for place in range(tag):
            gap, more = self.index(), self.index()
            if place > 0 and gap == 0 or last + gap + more > 65535:
                raise Refused("declined")
            ranges.append((last + gap, last + gap + more))
            last += gap + more
        return {"ranges": ranges}

    def parts(self, end):
        """Parts up to this place, as they came: pairs of type and bytes."""
        parts = []
        while self.at < end:
            kind, length = self.byte(), self.byte()
            if kind <= (parts[-1][0] if parts else 0) or self.at + length > end:
                raise Refused("parts")
            parts.append((kind, self.take(length)))
        return parts

    def row(self):
        tag = self.byte()
        if self.version >= 4:
            tag &= 15
        if tag >> 4 or tag >> 2 == 2:
            raise Refused("tag")
        row = {
            "status": STATUSES[tag & 3],
            "id": self.number(8),
            "generation": self.varint(TIME_MAX),
            "incarnation": self.incarnation(),
            "revision": self.varint(PART_MAX),
        }
        if tag & 4:
            row["profile"] = self.profile("monitor" if tag & 8 else "worker")
        return row

    def profile(self, role):
        profile = {"role": role, "address": self.address(), "name": self.text(64, 1), "zone": self.text(64)}
        count, begin = self.byte(), self.at
        profile["pairs"] = [(self.text(), self.text()) for _ in range(count)]
        if self.at - begin > 256:
            raise Refused("metadata")
        count = self.byte()
        if count > 16:
            raise Refused("groups")
        groups, declined = [], 0
        for _ in range(count):
            group = {"group": self.number(8), "shards": self.varint()}
            begin = self.at
            group["declined"] = self.declined()
            declined += self.at - begin
            if not 1 <= group["shards"] <= 65536:
                raise Refused("shards")
            groups.append(group)
        if declined > 384:
            raise Refused("declined")
        profile["groups"] = groups
        profile["extension"] = []
        if self.version >= 4:
            length = self.byte()
            if length > 128 or length > self.rest():
                raise Refused("extension")
            profile["extension"] = self.parts(self.at + length)
            versions_of(profile)
        return profile


def versions_of(profile):
    """The lowest and the highest version that the member of this profile can use."""
    for kind, data in profile["extension"]:
        if kind == 1:
            if len(data) != 2 or not 1 <= data[0] <= data[1]:
                raise Refused("versions")
            return (data[0], data[1])
    for key, value in profile["pairs"]:
        if key == "wire":
            low, hyphen, high = value.partition("-")
            if hyphen and low.isdecimal() and high.isdecimal() and 1 <= int(low) <= int(high) <= 255:
                return (int(low), int(high))
    return (3, 3)


def decode(data, versions=(3, 4)):
    if len(data) > DATAGRAM_BYTES_MAX:
        raise Refused("too long")
    reader = Reader(data, 3)
    if reader.take(2) != b"HB":
        raise Refused("magic")
    version = reader.byte()
    if not versions[0] <= version <= versions[1]:
        raise Refused(f"version {version}")
    reader.version = version
    kind = reader.byte()
    if kind >= len(KINDS):
        raise Refused(f"kind {kind}")
    message = {
        "version": version,
        "kind": KINDS[kind],
        "cluster": reader.number(4),
        "from": reader.number(8),
        "generation": reader.varint(TIME_MAX),
        "clock": reader.varint(),
    }
    if message["clock"] > TIME_MAX and message["generation"] + message["clock"] & MASK > TIME_MAX:
        raise Refused("clock")
    message.update(read_body(reader, KINDS[kind]))
    message["rumours"] = [reader.row() for _ in range(reader.byte())]
    message["parts"] = reader.parts(len(data)) if version >= 4 else []
    if reader.rest():
        raise Refused("bytes after the last rumour")
    return message


def summary_of(message):
    """What observers have learnt, by an ack or a heartbeat: jitter, whether most silences are lost heartbeats, and the
    silence that one heartbeat in 4, 16, 64 and so on exceeds. Times are in intervals."""
    silence = lambda byte: 2 ** ((byte - 128) / 16) if byte else 0.0
    for kind, data in message["parts"]:
        if kind == 2 and message["kind"] in ("ack", "heartbeat") and len(data) >= 2:
            points = [silence(max(data[2 : end + 1])) for end in range(2, min(len(data), 14))]
            return {"jitter": silence(data[0]), "whole": data[1] > 127, "silences": points}
    return None


def read_heartbeat(reader):
    fields = {"incarnation": reader.incarnation(), "stage": reader.varint(STAGE_MAX), "interval": reader.varint()}
    if not 0 < fields["interval"] <= 3_600_000_000:
        raise Refused("interval")
    fields.update(slept=reader.varint(STAGE_MAX), health=reader.byte(), flags=reader.flags(1))
    count = reader.byte()
    if count > 16:
        raise Refused("observers")
    fields["observers"] = [reader.number(4) for _ in range(count)]
    return fields


def read_part(reader):
    fields = {"number": reader.number(4), "group": reader.number(8), "index": reader.index()}
    fields.update(epoch=reader.varint((1 << 63) - 1), sequence=reader.varint(STAGE_MAX))
    fields.update({name: reader.varint(WORD_MAX) for name in ("part_version", "total", "offset")})
    length = reader.number(2)
    end = fields["offset"] + length
    if length > 1024 or end > fields["total"] or length < 1024 and end != fields["total"]:
        raise Refused("part")
    fields["bytes"] = reader.take(length)
    return fields


def read_body(reader, kind):
    if kind == "heartbeat":
        return read_heartbeat(reader)
    if kind == "ack":
        return {"stage": reader.varint(STAGE_MAX), "health": reader.byte()}
    if kind in ("probe", "poll", "vote"):
        return {"number": reader.number(4)}
    if kind == "echo":
        return {"number": reader.number(4), "incarnation": reader.incarnation(), "flags": reader.flags(1)}
    if kind in ("indirect probe", "probe report"):
        fields = {"number": reader.number(4), "target": reader.number(8)}
        fields.update(target_generation=reader.varint(TIME_MAX), stage=reader.varint(STAGE_MAX))
        if kind == "indirect probe":
            return {**fields, "flags": reader.flags(3)}
        return {**fields, "silence": reader.varint(WORD_MAX), "flags": reader.flags(7), "health": reader.byte()}
    if kind == "join":
        fields = {"token": reader.number(8), "row": reader.row()}
        if "profile" not in fields["row"]:
            raise Refused("a join without a row")
        return fields
    if kind == "challenge":
        return {"token": reader.number(8)}
    if kind == "sync":
        return {"digests": [reader.number(4) for _ in range(64)]}
    if kind == "rows":
        return {"differing": reader.number(8), "flags": reader.flags(7)}
    if kind == "ask":
        fields, count = {"number": reader.number(4), "group": reader.number(8)}, reader.byte()
        if count > 128 or fields["number"] == 0:
            raise Refused("ask")
        return {**fields, "indexes": [reader.index() for _ in range(count)]}
    if kind == "part":
        return read_part(reader)
    if kind == "kept":
        return {"kept": reader.number(4), "flags": reader.flags(1)}
    if kind == "refused":
        return {"reason": reader.byte(), "value": reader.varint()}
    return {}


# ---- writing ------------------------------------------------------------------------------------


def varint(value):
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(data) + bytes([value])


def number(value, width):
    return value.to_bytes(width, "little")


def text(value):
    data = value.encode()
    return bytes([len(data)]) + data


def incarnation(value):
    return varint(value[0]) + varint(value[1])


def write_declined(declined):
    if "bits" in declined:
        return bytes([128 + declined["shift"]]) + number(len(declined["bits"]), 2) + declined["bits"]
    data, last = bytes([len(declined["ranges"])]), 0
    for first, end in declined["ranges"]:
        data += varint(first - last) + varint(end - first)
        last = end
    return data


def write_parts(parts):
    return b"".join(bytes([kind, len(data)]) + data for kind, data in parts)


def write_row(row, version):
    profile = row.get("profile")
    tag = STATUSES.index(row["status"])
    if profile:
        tag |= 4 | (8 if profile["role"] == "monitor" else 0)
    data = bytes([tag]) + number(row["id"], 8) + varint(row["generation"])
    data += incarnation(row["incarnation"]) + varint(row["revision"])
    if not profile:
        return data
    ip = ipaddress.ip_address(profile["address"][0])
    data += bytes([ip.version]) + ip.packed + number(profile["address"][1], 2)
    data += text(profile["name"]) + text(profile["zone"]) + bytes([len(profile["pairs"])])
    data += b"".join(text(key) + text(value) for key, value in profile["pairs"])
    data += bytes([len(profile["groups"])])
    for group in profile["groups"]:
        data += number(group["group"], 8) + varint(group["shards"]) + write_declined(group["declined"])
    if version >= 4:
        parts = write_parts(profile["extension"])
        data += bytes([len(parts)]) + parts
    return data


def write_body(message):
    kind = message["kind"]
    if kind == "heartbeat":
        data = incarnation(message["incarnation"])
        data += b"".join(varint(message[name]) for name in ("stage", "interval", "slept"))
        data += bytes([message["health"], message["flags"], len(message["observers"])])
        return data + b"".join(number(observer, 4) for observer in message["observers"])
    if kind == "ack":
        return varint(message["stage"]) + bytes([message["health"]])
    if kind in ("probe", "poll", "vote"):
        return number(message["number"], 4)
    if kind == "echo":
        return number(message["number"], 4) + incarnation(message["incarnation"]) + bytes([message["flags"]])
    if kind in ("indirect probe", "probe report"):
        data = number(message["number"], 4) + number(message["target"], 8)
        data += varint(message["target_generation"]) + varint(message["stage"])
        if kind == "indirect probe":
            return data + bytes([message["flags"]])
        return data + varint(message["silence"]) + bytes([message["flags"], message["health"]])
    if kind == "join":
        return number(message["token"], 8) + write_row(message["row"], message["version"])
    if kind == "challenge":
        return number(message["token"], 8)
    if kind == "sync":
        return b"".join(number(digest, 4) for digest in message["digests"])
    if kind == "rows":
        return number(message["differing"], 8) + bytes([message["flags"]])
    if kind == "ask":
        data = number(message["number"], 4) + number(message["group"], 8) + bytes([len(message["indexes"])])
        return data + b"".join(varint(index) for index in message["indexes"])
    if kind == "part":
        data = number(message["number"], 4) + number(message["group"], 8) + varint(message["index"])
        names = ("epoch", "sequence", "part_version", "total", "offset")
        data += b"".join(varint(message[name]) for name in names)
        return data + number(len(message["bytes"]), 2) + message["bytes"]
    if kind == "kept":
        return number(message["kept"], 4) + bytes([message["flags"]])
    if kind == "refused":
        return bytes([message["reason"]]) + varint(message["value"])
    return b""


def encode(message):
    version, rumours = message["version"], message.get("rumours", [])
    data = b"HB" + bytes([version, KINDS.index(message["kind"])])
    data += number(message["cluster"], 4) + number(message["from"], 8)
    data += varint(message["generation"]) + varint(message["clock"]) + write_body(message)
    data += bytes([len(rumours)]) + b"".join(write_row(row, version) for row in rumours)
    return data + write_parts(message.get("parts", []))


# The summary in the files of golden bytes, as the page explains it.
EXAMPLE = {"jitter": 1 / 16, "whole": True, "silences": [0.0, 1.0, 2.0, 4.0, 8.0]}


# ---- the files of golden bytes --------------------------------------------------------------------


def check_truncations(name, data, parts):
    """Each datagram that is cut short is refused, but for one that lacks no more than its last parts."""
    ends = [len(data) - len(write_parts(parts[place:])) for place in range(len(parts))]
    for length in range(len(data)):
        if length in ends:
            continue
        try:
            decode(data[:length])
        except Refused:
            continue
        raise SystemExit(f"{name}: {length} of {len(data)} bytes are accepted")


def main(paths):
    kinds, count, summaries = set(), 0, 0
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                name, digits = line.split()
                data = bytes.fromhex(digits)
                message = decode(data)
                if encode(message) != data:
                    raise SystemExit(f"{path}: {name} is written as {encode(message).hex()}")
                check_truncations(name, data, message["parts"])
                summaries += summary_of(message) == EXAMPLE
                kinds.add((message["version"], message["kind"]))
                count += 1
    missing = [(version, kind) for version in (3, 4) for kind in KINDS if (version, kind) not in kinds]
    if missing:
        raise SystemExit(f"no datagram of {missing}")
    if summaries != 2:
        raise SystemExit(f"{summaries} datagrams have the summary of the example")
    print(f"{count} datagrams of {len(kinds)} kinds and versions are read and written alike")


if __name__ == "__main__":
    main(sys.argv[1:])
