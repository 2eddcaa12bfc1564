#!/usr/bin/env python3
"""Checks an export of an Avouch audit log, or the frozen vectors, without any of Avouch's code.

    check.py export DIR [VERIFIER-KEY]
    check.py vectors DIR

Written from RFC 9162 (trees), RFC 8949 (CBOR), RFC 8032 (Ed25519), RFC 2104 (HMAC) and C2SP's tlog-tiles,
tlog-checkpoint and signed-note, with hashlib, json and base64, so that agreement with the Go package means something.
It is slow and holds the log in memory: it is an oracle for tests, and something to read.
"""
import base64
import hashlib
import json
import os
import sys


class Bad(Exception):
    """What does not hold, and the index of the entry where it shows (-1: no single entry)."""


def need(ok, index, why):
    if not ok:
        raise Bad(index, why)


def sha256(b):
    return hashlib.sha256(b).digest()


# RFC 9162, section 2.1.1.
def leaf_hash(entry):
    return sha256(b"\x00" + entry)


def tree_hash(leaves):
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:]))


def link(prev, leaf):
    return sha256(b"avouch/link/v1\n" + prev + leaf)


def hmac_sha256(key, message):
    key = key.ljust(64, b"\0")
    inner = sha256(bytes(x ^ 0x36 for x in key) + message)
    return sha256(bytes(x ^ 0x5C for x in key) + inner)


# RFC 8949: what an entry uses of it.
def cbor_head(major, n):
    if n < 24:
        return bytes([major << 5 | n])
    for size, code in ((1, 24), (2, 25), (4, 26), (8, 27)):
        if n < 1 << (8 * size):
            return bytes([major << 5 | code]) + n.to_bytes(size, "big")
    raise ValueError(n)


def cbor(v):
    if isinstance(v, int):
        return cbor_head(0, v)
    if isinstance(v, bytes):
        return cbor_head(2, len(v)) + v
    if isinstance(v, str):
        b = v.encode()
        return cbor_head(3, len(b)) + b
    if isinstance(v, list):
        return cbor_head(4, len(v)) + b"".join(cbor(x) for x in v)
    return cbor_head(5, len(v)) + b"".join(cbor(k) + cbor(v[k]) for k in sorted(v))


def uncbor(b, at=0, depth=4):
    major, n, at = b[at] >> 5, b[at] & 31, at + 1
    if n >= 24:
        size = {24: 1, 25: 2, 26: 4, 27: 8}[n]
        n, at = int.from_bytes(b[at:at + size], "big"), at + size
    if major == 0:
        return n, at
    if major in (2, 3):
        if at + n > len(b):
            raise ValueError("short")
        return (b[at:at + n] if major == 2 else b[at:at + n].decode()), at + n
    if major not in (4, 5) or depth == 0 or n > len(b):
        raise ValueError("not of an entry")
    items = []
    for _ in range(n * (major - 3)):
        v, at = uncbor(b, at, depth - 1)
        items.append(v)
    return (items if major == 4 else dict(zip(items[::2], items[1::2]))), at


# RFC 8032, section 5.1 and appendix A.
P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def times(s, p):
    q = (0, 1, 1, 0)
    while s:
        if s & 1:
            q = add(q, p)
        p, s = add(p, p), s >> 1
    return q


def point(b):
    y = int.from_bytes(b, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    xx = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if (x * x - xx) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (x * x - xx) % P or (x == 0 and sign):
        raise ValueError("not a point")
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def ed25519_verify(public, message, signature):
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= Q:
        return False
    h = int.from_bytes(hashlib.sha512(r + public + message).digest(), "little") % Q
    left, right = times(s, BASE), add(point(r), times(h, point(public)))
    return all((left[i] * right[2] - right[i] * left[2]) % P == 0 for i in (0, 1))


def open_checkpoint(signed, vkey):
    """C2SP signed-note and tlog-checkpoint: origin, size, root."""
    name, key_hash, key = vkey.split("+", 2)
    key = base64.b64decode(key, validate=True)
    need(key[0] == 1 and len(key) == 33, -1, "the key is not of Ed25519")
    key_id = sha256(name.encode() + b"\n" + key)[:4]
    need(key_id.hex() == key_hash, -1, "the key's hash is wrong")
    text, _, signatures = signed.decode().rpartition("\n\n")
    text += "\n"
    good = False
    for line in signatures.splitlines():
        dash, signer, sig = line.split(" ")
        sig = base64.b64decode(sig, validate=True)
        if dash == "\u2014" and signer == name and sig[:4] == key_id:
            need(ed25519_verify(key[1:], text.encode(), sig[4:]), -1, "the signature is wrong")
            good = True
    need(good, -1, "the log's key did not sign")
    origin, size, root = text.splitlines()
    need(origin == name and size == str(int(size)), -1, "the checkpoint is malformed")
    return origin, int(size), base64.b64decode(root, validate=True)


def tile_path(level, n, width):
    name = "%03d" % (n % 1000)
    while n >= 1000:
        n //= 1000
        name = "x%03d/%s" % (n % 1000, name)
    return "tile/%s/%s%s" % (level, name, "" if width == 256 else ".p/%d" % width)


def read(directory, name, index=-1):
    try:
        with open(os.path.join(directory, name), "rb") as f:
            return f.read()
    except OSError as e:
        raise Bad(index, "%s: %s" % (name, e.strerror))


def check_tiles(directory, entries, leaves):
    level, hashes = 0, leaves
    while hashes:
        for n in range(0, len(hashes), 256):
            part = hashes[n:n + 256]
            first = n << (8 * level)
            path = tile_path(level, n // 256, len(part))
            data = read(directory, path, first)
            for i, h in enumerate(part):
                need(data[32 * i:32 * i + 32] == h, (n + i) << (8 * level), path)
            need(len(data) == 32 * len(part), first, path + " is too long")
        full = len(hashes) // 256
        hashes = [tree_hash(hashes[256 * i:256 * i + 256]) for i in range(full)]
        level += 1
    for n in range(0, len(entries), 256):
        part = entries[n:n + 256]
        path = tile_path("entries", n // 256, len(part))
        data, at = read(directory, path, n), 0
        for i, e in enumerate(part):
            want = len(e).to_bytes(2, "big") + e
            need(data[at:at + len(want)] == want, n + i, path)
            at += len(want)
        need(at == len(data), n + len(part) - 1, path + " is too long")


def check_export(directory, vkey=None):
    own = read(directory, "log.vkey").decode()
    need(own.endswith("\n") and (vkey is None or own[:-1] == vkey), -1, "another key")
    origin, size, root = open_checkpoint(read(directory, "checkpoint"), own[:-1])
    log = bytes.fromhex(origin.split("/audit/")[1].replace("-", ""))
    prev, entries, leaves = bytes(32), [], []
    for i, line in enumerate(read(directory, "records.ndjson").decode().splitlines()):
        need(i < size, i, "more records than the checkpoint covers")
        try:
            r = json.loads(line)
            entry = base64.b64decode(r["entry"], validate=True)
            e, end = uncbor(entry)
            need(end == len(entry) and cbor(e) == entry, i, "the entry is not deterministic CBOR")
        except (ValueError, KeyError, IndexError, TypeError) as err:
            raise Bad(i, "malformed: %r" % err)
        need(r["seq"] == i, i, "sequence")
        need(r["prev"] == prev.hex(), i, "prev")
        need(r["leaf"] == leaf_hash(entry).hex(), i, "leaf")
        need(e[1] == 1 and e[2] == log, i, "version or log")
        for d in r.get("disclosed", []):
            fields = cbor([[f["name"], f["value"]] for f in d["fields"]])
            sums = [c[2] for c in e[15] if c[0] == d["name"]]
            need(sums == [hmac_sha256(bytes.fromhex(d["salt"]), fields)], i, "disclosed")
        entries.append(entry)
        leaves.append(leaf_hash(entry))
        prev = link(prev, leaves[-1])
    need(len(entries) == size, len(entries), "records are missing")
    check_tiles(directory, entries, leaves)
    need(tree_hash(leaves) == root, -1, "root")
    return "%s: %d entries, root %s, link %s" % (origin, size, root.hex(), prev.hex())


def check_vectors(directory):
    def vectors(name):
        return json.loads(read(directory, name))
    for v in vectors("entries.json"):
        b = bytes.fromhex(v["entry"])
        e, end = uncbor(b)
        need(end == len(b) and cbor(e) == b and leaf_hash(b).hex() == v["leaf"], -1, v["name"])
    prev = bytes(32)
    for v in vectors("links.json"):
        need(v["prev"] == prev.hex(), v["seq"], "prev")
        prev = link(prev, bytes.fromhex(v["leaf"]))
        need(v["link"] == prev.hex(), v["seq"], "link")
    for v in vectors("commitments.json"):
        canonical = cbor([[f["name"], f["value"]] for f in v["fields"]])
        need(canonical.hex() == v["canonical"], -1, v["name"])
        need(hmac_sha256(bytes.fromhex(v["salt"]), canonical).hex() == v["sum"], -1, v["name"])
    for v in vectors("roots.json"):
        leaves = [leaf_hash(str(i).encode()) for i in range(v["size"])]
        need(tree_hash(leaves).hex() == v["root"], v["size"], "root")
    v = vectors("checkpoint.json")
    origin, size, root = open_checkpoint(v["checkpoint"].encode(), v["vkey"])
    need((origin, size, root.hex()) == (v["origin"], v["size"], v["root"]), -1, "checkpoint")
    return "vectors hold"


if __name__ == "__main__":
    try:
        print("ok", {"export": check_export, "vectors": check_vectors}[sys.argv[1]](*sys.argv[2:]))
    except Bad as bad:
        sys.exit("entry %d: %s" % bad.args)
