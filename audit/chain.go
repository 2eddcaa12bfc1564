package audit

import "crypto/sha256"

// LinkDomain begins what Link hashes, so that no link is the hash of anything else. The database's batch statement
// writes the same bytes.
const LinkDomain = "avouch/link/v1\n"

// Genesis is the link before the first entry of a log: 32 zero bytes. It never changes.
var Genesis [32]byte

// onStack covers nearly every entry, so that hashing one allocates nothing.
const onStack = 2048

// Leaf is the hash of an entry in the Merkle tree: SHA-256(0x00 || entry), as RFC 6962 and RFC 9162 have it.
func Leaf(entry []byte) [32]byte {
	if len(entry) < onStack {
		var buf [onStack]byte
		return sha256.Sum256(buf[:1+copy(buf[1:], entry)])
	}
	return sha256.Sum256(append([]byte{0}, entry...))
}

// Link takes the chain one entry forward: SHA-256(LinkDomain || prev || leaf). The record after it holds the result as
// its Prev, so that changing an entry breaks every later record.
func Link(prev, leaf [32]byte) [32]byte {
	var buf [len(LinkDomain) + 64]byte
	n := copy(buf[:], LinkDomain)
	n += copy(buf[n:], prev[:])
	copy(buf[n:], leaf[:])
	return sha256.Sum256(buf[:])
}
