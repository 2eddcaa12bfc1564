package password

import (
	"bytes"
	"cmp"
	"crypto/sha1" //nolint:gosec // of the lists
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
)

// A filter file has the SHA-1 of each password, cut to bits + 32 bits, sorted: those with the same first bits make a bucket, and
// a bucket has the next 32 bits of each. To look one up takes two reads, and one in fifty million unknown passwords is taken for a known one
// (a bucket has 64 hashes on average).
//
//	header   magic "AVOUCHBP" | version (2) | bits (2) | zero (4) | hashes (8) | zero (4) | CRC-32C of all before (4)
//	index    for each bucket, and one more: hashes before it (8) | CRC-32C of its number, its length and its hashes (4)
//	buckets  4 bytes a hash
//
// All numbers are big-endian. The sums find accidents, not forgers: who can write the file decides what is in it.
const (
	filterMagic   = "AVOUCHBP"
	filterVersion = 1
	filterHeader  = 32
	indexEntry    = 12
	hashEntry     = 4
	bucketAims    = 64 // hashes in a bucket
	mostBits      = 30
	mostBucket    = 1 << 20 // hashes; SHA-1 spreads them evenly, so a file with more is not one
)

// errFilter wraps what is wrong with a filter file.
var errFilter = errors.New("it is not a whole filter file: make it anew with avouch passwords import")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// filter is a filter file that is open.
type filter struct {
	from   io.ReaderAt
	file   io.Closer
	bits   int
	hashes uint64
}

// key is as much of a digest as can be in a filter file.
func key(digest [sha1.Size]byte) uint64 { return binary.BigEndian.Uint64(digest[:8]) }

func openFilter(path string) (*filter, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the file of breached passwords: %w", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a file")
	}
	var f *filter
	if err == nil {
		f, err = readFilter(file, info.Size())
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("the file of breached passwords %s: %w", path, err)
	}
	f.file = file
	return f, nil
}

// readFilter reads the header of a filter file of a size.
func readFilter(from io.ReaderAt, size int64) (*filter, error) {
	head := make([]byte, filterHeader)
	if n, err := from.ReadAt(head, 0); n < len(head) {
		return nil, errors.Join(errFilter, err)
	}
	f := &filter{from: from, bits: int(binary.BigEndian.Uint16(head[10:])), hashes: binary.BigEndian.Uint64(head[16:])}
	want := filterHead(f.bits, f.hashes)
	if !bytes.Equal(head, want) || f.bits > mostBits || f.hashes > 1<<40 || f.at(f.hashes) != size {
		return nil, errFilter
	}
	return f, nil
}

func filterHead(bits int, hashes uint64) []byte {
	head := append(make([]byte, 0, filterHeader), filterMagic...)
	head = binary.BigEndian.AppendUint16(head, filterVersion)
	head = binary.BigEndian.AppendUint16(head, uint16(bits)) //nolint:gosec // at most 65535, whoever calls
	head = binary.BigEndian.AppendUint32(head, 0)
	head = binary.BigEndian.AppendUint64(head, hashes)
	head = binary.BigEndian.AppendUint32(head, 0)
	return binary.BigEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))
}

// at is where the hash with a number is.
func (f *filter) at(n uint64) int64 {
	return filterHeader + (int64(1)<<f.bits+1)*indexEntry + int64(n)*hashEntry //nolint:gosec // below 2^42
}

// Close closes the file.
func (f *filter) Close() { f.file.Close() }

// bucketOf is the number of a key's bucket, and what the bucket has of it.
func bucketOf(key uint64, bits int) (bucket uint64, rest uint32) {
	return key >> (64 - bits), uint32(key << bits >> 32) //nolint:gosec // a shift by 64 gives 0
}

// has tells whether a digest is in the file, or one that begins like it.
func (f *filter) has(digest [sha1.Size]byte) (bool, error) {
	bucket, rest := bucketOf(key(digest), f.bits)
	var pair [2 * indexEntry]byte
	if _, err := f.from.ReadAt(pair[:], filterHeader+int64(bucket)*indexEntry); err != nil { //nolint:gosec // below 2^30
		return false, fmt.Errorf("the file of breached passwords: %w", err)
	}
	first, sum, next := binary.BigEndian.Uint64(pair[:]), binary.BigEndian.Uint32(pair[8:]), binary.BigEndian.Uint64(pair[indexEntry:])
	if first > next || next > f.hashes || next-first > mostBucket {
		return false, fmt.Errorf("the file of breached passwords, bucket %d: %w", bucket, errFilter)
	}
	hashes := make([]byte, (next-first)*hashEntry)
	if _, err := f.from.ReadAt(hashes, f.at(first)); err != nil && len(hashes) > 0 {
		return false, fmt.Errorf("the file of breached passwords: %w", err)
	}
	if sum != bucketSum(bucket, hashes) {
		return false, fmt.Errorf("the file of breached passwords, bucket %d: %w", bucket, errFilter)
	}
	all := make([]uint32, 0, len(hashes)/hashEntry)
	for chunk := range slices.Chunk(hashes, hashEntry) {
		all = append(all, binary.BigEndian.Uint32(chunk))
	}
	_, found := slices.BinarySearchFunc(all, rest, cmp.Compare[uint32])
	return found, nil
}

// bucketSum is the checksum of a bucket, which no other bucket has with the same hashes.
func bucketSum(bucket uint64, hashes []byte) uint32 {
	place := binary.BigEndian.AppendUint64(nil, bucket)
	place = binary.BigEndian.AppendUint64(place, uint64(len(hashes)/hashEntry))
	return crc32.Update(crc32.Checksum(place, castagnoli), castagnoli, hashes)
}
